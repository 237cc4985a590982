"""The zoo: small networks that are not ours, of every kind that users bring, as a fixture of several tests.

`CASES` holds them by name. A case's network, inputs and labels are the same each time; see `zoo_case.Case`.
"""

import zoo_convolutions
import zoo_forms
import zoo_norms
import zoo_sequences
import zoo_sharing
from zoo_case import Case as Case

FOLDERS = (zoo_convolutions, zoo_norms, zoo_sequences, zoo_sharing, zoo_forms)
CASES: dict[str, Case] = {case.name: case for folder in FOLDERS for case in folder.CASES}
# What torch warns of in layers that are in the zoo on purpose: beginnings of messages, as tests ignore them.
WARNINGS = (
    "Using padding='same' with even kernel lengths",
    "LSTM with projections is not supported with oneDNN",
    "`torch.nn.utils.weight_norm` is deprecated",
    "The PyTorch API of nested tensors is in prototype stage",
)

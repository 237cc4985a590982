"""Cases of the zoo: forms of inputs, outputs, tasks and numbers, and parameters that are made of others."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from zoo_case import WORDS, Case, in_order, numbers, seeded, together, vectors, whole


def mlp(outputs: int = 3, *between: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), *between, nn.ReLU(), nn.Linear(width, outputs))


class DictInDictOut(nn.Module):
    """Takes words and numbers by name, gives a dict, as networks of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.numbers, self.out = nn.Embedding(WORDS, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, words: torch.Tensor, given: torch.Tensor) -> dict[str, torch.Tensor]:
        inner = torch.tanh(self.words(words).mean(1) + self.numbers(given))
        return {"hidden": inner, "logits": self.out(inner)}


class Outputs(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


class NamedOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> Outputs:
        inner = torch.tanh(self.inner(given))
        return Outputs(self.out(inner), inner)


class TupleIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(6, 5), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu(self.left(left) * self.right(right)))


class PlainTensors(nn.Module):
    """Tensors that are attributes: neither parameters nor buffers, but the outputs depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.basis = torch.randn(6) * 0.2, torch.randn(6, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh((given - self.mean) @ self.basis))


class NotSaved(nn.Module):
    """A buffer that the state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)
        self.register_buffer("turn", torch.linalg.qr(torch.randn(6, 6)).Q, persistent=False)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.inner(given @ self.turn)))


class ChangesInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.ReLU(inplace=True), mlp()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.inner(self.first(given))


class Autocast(nn.Module):
    """Computes with 16 bits inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(given)


class Noisy(nn.Module):
    """Random outputs in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.inner(given + 0.1 * torch.randn_like(given))


class DropoutAlways(nn.Module):
    """Dropout that stays on in evaluation: as above, by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(functional.dropout(self.inner(given), 0.5, training=True))


class BatchCentred(nn.Module):
    """Subtracts the mean of the batch, so that a sample's outputs depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.inner(given - given.mean(0, keepdim=True))


class OneSamplePerRow(nn.Module):
    """Gives (samples,) and no second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.inner(given).squeeze(1)


class SoftmaxInside(nn.Module):
    """A shift of all scores does not change the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.shift = nn.Linear(6, 3), nn.Parameter(torch.randn(1))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return (self.out(given) + self.shift).log_softmax(1)


def parametrised() -> nn.Module:
    module = mlp()
    parametrizations.weight_norm(module[0])
    parametrizations.spectral_norm(module[2])
    return module


def orthogonal() -> nn.Module:
    module = mlp(width=6)
    parametrizations.orthogonal(module[0])
    return module


def old_weight_norm() -> nn.Module:
    module = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    nn.utils.weight_norm(module[0])
    nn.utils.spectral_norm(module[3])
    module(torch.randn(4, 2, 8))  # the old norms make their weight in a forward pass
    return module


def pruned() -> nn.Module:
    module = mlp()
    prune.l1_unstructured(module[0], "weight", 0.5)
    prune.ln_structured(module[2], "weight", 0.3, n=2, dim=1)
    return module


def labelled(limit: int, *shape: int) -> Any:
    return lambda count: whole(limit, *shape)(count).float()


BINARY, MULTILABEL, REGRESSION = ({"task": task} for task in ("binary", "multilabel", "regression"))
NAMED = {"words": whole(WORDS, 5), "given": numbers(4)}
CASES = (
    vectors("binary", lambda: mlp(1), "one logit", labels=labelled(2, 1), task=BINARY),
    vectors("binary-without-axis", OneSamplePerRow, "one logit, no second axis", labels=whole(2), task=BINARY),
    vectors("multilabel", lambda: mlp(5), labels=labelled(2, 5), task=MULTILABEL),
    vectors("regression", lambda: mlp(2), labels=numbers(2), task=REGRESSION),
    vectors("regression-one-number", OneSamplePerRow, labels=numbers(), task=REGRESSION),
    vectors("many-classes", lambda: mlp(1000, width=2), "a thousand classes, two inner channels", labels=whole(1000)),
    vectors("two-classes", lambda: mlp(2), labels=whole(2)),
    vectors("softmax-inside", SoftmaxInside, "outputs are log-probabilities", unused=("shift",)),
    Case("dict", seeded(DictInDictOut), together(**NAMED), whole(3), {"task": "classes", "output": "logits"}),
    vectors("named-tuple-out", NamedOut, task={"task": "classes", "output": "logits"}),
    vectors("tuple", TupleIn, "two inputs in order", inputs=in_order(numbers(6), numbers(4, seed=5))),
    vectors("plain-tensors", PlainTensors, "tensors that are neither parameters nor buffers"),
    vectors("buffer-not-saved", NotSaved, "a buffer that the state dict leaves out"),
    vectors("changes-inputs", ChangesInputs, "its first layer works in place"),
    vectors("dropout", lambda: mlp(3, nn.Dropout(0.5)), "random in training only"),
    vectors("noisy", Noisy, "random outputs", refused="random"),
    vectors("dropout-always", DropoutAlways, "random outputs by dropout", refused="random"),
    vectors("batch-centred", BatchCentred, "a sample's outputs depend on the others"),
    vectors("parametrised", parametrised, "weight_norm and spectral_norm"),
    vectors("orthogonal", orthogonal, "a weight made by a function of another"),
    vectors("old-weight-norm", old_weight_norm, "weights that are made before each forward pass", inputs=numbers(2, 8)),
    vectors("pruned", pruned, "masks of torch.nn.utils.prune"),
    vectors("data-parallel", lambda: nn.DataParallel(mlp()), "a wrapper around the network"),
    vectors("autocast", Autocast, "computes with 16 bits inside"),
    vectors("float64", lambda: mlp().double(), inputs=numbers(6, dtype=torch.float64)),
    vectors("float16", lambda: mlp(3, nn.LayerNorm(8)).half(), inputs=numbers(6, dtype=torch.float16)),
    vectors("bfloat16", lambda: mlp().bfloat16(), inputs=numbers(6, dtype=torch.bfloat16)),
)

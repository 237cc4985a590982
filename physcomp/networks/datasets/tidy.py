"""Arrays as a source holds them, made the tensors that a network takes: types, range and layout.

Bytes are pixels and become float32 in [0, 1]; (N, H, W) of them becomes (N, 1, H, W). Channels that stand last become
the second axis where that is what they must be: 1, 3 or 4 of them, after a height and width of at least `SIDE`, where
the second axis has no such length. Other whole numbers are tokens, int64. Floating-point numbers become float32.
"""

from typing import Any

import numpy as np
import torch

from physcomp.networks.datasets.array_names import FURTHER, IMAGES, TOKENS
from physcomp.networks.datasets.parts import Array, Part, Several
from physcomp.networks.samples import Inputs

CHANNELS = (1, 3, 4)
SIDE = 8  # the least height and width of an image whose channels may stand last (our choice)
IGNORED = -100  # the label of tokens and pixels that do not count, as in torch.nn.CrossEntropyLoss
ONE_HOT = 20  # the least number of samples that are taken to be one-hot (our choice): fewer may be so by chance


def input_tensors(part: Part, inputs: Several) -> Inputs:
    """Inputs as float32 or int64 tensors in the layout that networks take.

    Raises:
        ValueError: an array is not of finite numbers, or of whole numbers in four dimensions or more.
    """
    if isinstance(inputs, tuple):
        return tuple(_input(part, f"input {i}", array, "") for i, array in enumerate(inputs))
    if isinstance(inputs, torch.Tensor | np.ndarray):
        return _input(part, "inputs", inputs, "")
    return {name: _input(part, f"input {name}", array, name.lower()) for name, array in inputs.items()}


def _input(part: Part, what: str, array: Array, name: str) -> torch.Tensor:
    what = f"{part.where}: {what}"
    tensor = as_tensor(what, array)
    tokens = name in (*TOKENS, *FURTHER) if name else part.tokens
    image = name in IMAGES if name else part.images
    if tensor.dtype == torch.uint8 and not tokens:
        if tensor.dim() == 3:
            tensor = tensor.unsqueeze(1)
        return _channels_second(tensor).float().div_(255)
    if tensor.is_floating_point():
        finite(what, tensor)
        if part.ready:
            return tensor.float()
        return _channels_second(tensor.unsqueeze(1) if image and tensor.dim() == 3 else tensor).float()
    if tensor.dtype == torch.bool:
        return tensor.float() if tensor.dim() > 2 else tensor
    if tensor.dim() > 3 or (image and tensor.dim() > 2):
        raise ValueError(
            f"{what} are {tensor.dtype} of shape {tuple(tensor.shape)}: pixels are uint8 (0 to 255) or floats; "
            "store them as one of these"
        )
    return tensor.long()


def _channels_second(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() != 4 or tensor.shape[1] in CHANNELS or tensor.shape[3] not in CHANNELS:
        return tensor
    return tensor.permute(0, 3, 1, 2).contiguous() if min(tensor.shape[1:3]) >= SIDE else tensor


def label_tensor(where: str, labels: Array) -> torch.Tensor:
    """Labels as int64 classes, of a sample or of each token or pixel, or as float32 numbers.

    One-hot rows become classes; a column of classes (N, 1) becomes (N,).

    Raises:
        ValueError: labels are not finite numbers, or a class is negative (but for -100 of a token or pixel).
    """
    tensor = as_tensor(f"{where}: labels", labels)
    if _one_hot(tensor):
        return tensor.float().argmax(1)
    if tensor.is_floating_point():
        finite(f"{where}: labels", tensor)
        return tensor.float()
    tensor = tensor.long()
    if tensor.dim() == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    bad = torch.nonzero((tensor < 0) & ((tensor != IGNORED) | (tensor.dim() == 1)))
    if len(bad):
        place = tuple(bad[0].tolist())
        ignored = "" if tensor.dim() == 1 else f", or {IGNORED} where a token or pixel does not count"
        raise ValueError(
            f"{where}: labels count classes from 0{ignored}, got {int(tensor[place])} for sample {place[0]} "
            f"({len(bad)} such); leave those samples out or number the classes anew"
        )
    return tensor


def _one_hot(tensor: torch.Tensor) -> bool:
    if tensor.dim() != 2 or tensor.shape[1] < 3 or len(tensor) < ONE_HOT:
        return False
    return bool((((tensor == 0) | (tensor == 1)).all(1) & ((tensor == 1).sum(1) == 1)).all())


def finite(what: str, tensor: torch.Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: there are some; the message gives the first sample.
    """
    bad = ~torch.isfinite(tensor.reshape(len(tensor), -1)).all(1)
    if bool(bad.any()):
        first = int(torch.nonzero(bad)[0])
        raise ValueError(
            f"{what}: sample {first} holds NaN or infinity ({int(bad.sum())} such samples of {len(tensor)}); mend "
            "those samples or leave them out"
        )


def as_tensor(what: str, array: Array) -> torch.Tensor:
    """An array of numbers as a tensor of a type that torch computes with.

    Raises:
        ValueError: it is not of real numbers, or of integers that int64 does not hold.
    """
    if isinstance(array, torch.Tensor):
        if array.is_complex():
            raise ValueError(f"{what} are of type {array.dtype}; pass real and imaginary parts as channels")
        tensor = array
        if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
            return as_tensor(what, tensor.numpy())
    else:
        tensor = torch.from_numpy(_native(what, array))
    if not tensor.dim():
        raise ValueError(f"{what} are a single number; the first axis counts samples")
    return tensor


def _native(what: str, array: Any) -> np.ndarray[Any, Any]:
    """The array in a type that torch has, in memory of its own."""
    kind = array.dtype.kind
    if kind not in "biuf":
        cure = "number them: numpy.unique(labels, return_inverse=True)[1]" if kind in "SUO" else "pass real ones"
        raise ValueError(f"{what} are of type {array.dtype}, not numbers; {cure}")
    if kind == "f":
        return np.array(array, np.float32 if array.dtype.itemsize <= 4 or array.dtype.itemsize > 8 else np.float64)
    if kind == "u" and array.dtype.itemsize > 1:
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{what} hold {int(array.max())}, more than int64 does; store smaller numbers")
        return np.array(array, np.int64)
    return np.array(array, array.dtype.newbyteorder("="))

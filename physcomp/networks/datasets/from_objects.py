"""Objects of Python code (Samples, datasets, loaders, arrays) as parts of a data set.

An item of a dataset, and a batch of a loader, is (input, label), (input, ..., label), or a dictionary with usual names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils import data

from physcomp.networks.datasets.array_names import roles_by_part
from physcomp.networks.datasets.parts import (
    ALL,
    Array,
    Part,
    Rows,
    Several,
    change,
    each,
    in_memory,
    is_part_name,
    join,
)
from physcomp.networks.samples import Samples

Pair = tuple[Several, Array]
FORMS = "a physcomp.Samples, a Dataset, a DataLoader, a pair (inputs, labels) or a dictionary of arrays"


def parts_of_object(given: Any, where: str, name: str, seed: int, most: int | None = None) -> list[Part]:
    """The parts of an object that code returned.

    Args:
        given: see `FORMS`; a dictionary may also hold one of these for each part.
        where: where it comes from, for messages.
        name: of the part it is; `all` where no part was asked for.
        seed: of torch's random numbers while items are made.
        most: samples that are read of a stream; none: all.

    Raises:
        ValueError: it is none of these forms.
    """
    where = where if name == ALL else f"{where}, part {name}"
    if isinstance(given, Mapping):
        if given and all(isinstance(key, str) and is_part_name(key) for key in given) and name == ALL:
            return [part for key, value in given.items() for part in parts_of_object(value, where, key, seed, most)]
        return _of_arrays(given, where, name)
    if isinstance(given, Samples):
        return [in_memory(name, where, given.inputs, given.labels, ready=True)]
    if isinstance(given, data.TensorDataset):
        return [_of_pair(_pair(where, given.tensors), where, name)]
    if _is_pair(given):
        return [_of_pair(_pair(where, tuple(given)), where, name)]
    if isinstance(given, data.DataLoader):
        return [_of_loader(given, where, name, seed, most)]
    if isinstance(given, data.IterableDataset):
        return [_of_stream(given, where, name, seed, most)]
    if isinstance(given, data.Dataset | list) or (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        if isinstance(given, str | bytes | tuple | np.ndarray | torch.Tensor):
            raise ValueError(f"{where}: got {_kind(given)}; give {FORMS}")
        return [_of_items(given, where, name, seed)]
    raise ValueError(f"{where}: got {_kind(given)}; give {FORMS}")


def _kind(given: Any) -> str:
    if isinstance(given, tuple | list):
        return f"{type(given).__name__} of {', '.join(type(value).__name__ for value in given[:4]) or 'nothing'}"
    return "None" if given is None else type(given).__name__


def _is_pair(given: Any) -> bool:
    """Whether something is arrays of inputs with an array of labels last; a list may also be one of samples."""
    if not isinstance(given, tuple | list) or len(given) < 2 or not all(_is_arrays(value) for value in given):
        return False
    plain = [isinstance(value, torch.Tensor | np.ndarray) for value in given]
    return plain[-1] if isinstance(given, tuple) else all(plain)


def _is_arrays(value: Any) -> bool:
    """Whether a value is an array with samples, or arrays by name or in order."""
    if isinstance(value, Mapping):
        return bool(value) and all(_is_arrays(inner) for inner in value.values())
    if isinstance(value, tuple):
        return bool(value) and all(_is_arrays(inner) for inner in value)
    return isinstance(value, torch.Tensor | np.ndarray) and value.ndim > 0


def _of_pair(pair: Pair, where: str, name: str) -> Part:
    return in_memory(name, where, *pair, ready=True)


def _of_arrays(given: Mapping[Any, Any], where: str, name: str) -> list[Part]:
    arrays = {str(key): value for key, value in given.items()}
    parts = []
    for found, roles in roles_by_part(where, arrays).items():
        inputs = {role: _array(f"{where}: {key}", arrays[key]) for role, key in roles.inputs.items()}
        labels = _array(f"{where}: {roles.labels}", arrays[roles.labels])
        several: Several = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        part = in_memory(found, where, several, labels, ready=True, images=roles.images, tokens=roles.tokens)
        parts.append(replace(part, name=name if found == ALL else found))
    return parts


def _of_items(items: Any, where: str, name: str, seed: int, indices: Sequence[int] | None = None) -> Part:
    try:
        count = len(items)
    except (TypeError, NotImplementedError):
        raise ValueError(f"{where}: the dataset has no length; define __len__, or return an IterableDataset") from None
    chosen = range(count) if indices is None else indices

    def one(row: int) -> Pair:
        pair = _pair(where, _item(items, chosen[row], where))
        return change(pair[0], lambda array: array[None]), pair[1][None]

    return _part(where, name, len(chosen), lambda rows: (one(int(row)) for row in rows), seed)


def _part(where: str, name: str, count: int, pairs: Callable[[Rows], Iterable[Pair]], seed: int) -> Part:
    def read(rows: Rows) -> Pair:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _together(where, list(pairs(rows)))

    if not count:
        raise ValueError(f"{where}: the dataset is empty; need at least one sample")
    return Part(name, where, count, read, ready=True)


def _item(items: Any, index: int, where: str) -> Any:
    with guarded(where, f"sample {index}"):
        return items[index]


@contextmanager
def guarded(where: str, what: str) -> Iterator[None]:
    """Tell what a dataset raises in one line.

    Raises:
        ValueError: with the type and the message.
    """
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split()) or "without a message"
        raise ValueError(f"{where}: {what} raised {type(error).__name__}: {text}; mend the dataset") from error


def _of_loader(loader: Any, where: str, name: str, seed: int, most: int | None) -> Part:
    """A loader's samples, in the order of its dataset; its shuffling and batch size do not matter."""
    dataset = loader.dataset
    if isinstance(dataset, data.IterableDataset) or loader.batch_sampler is None:
        return _of_stream(loader, where, name, seed, most, batches=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        indices = _indices(loader)
    if loader.collate_fn is data.default_collate:
        return _of_items(dataset, where, name, seed, indices)
    size = loader.batch_size or 1

    def pairs(rows: Rows) -> Iterable[Pair]:
        for start in range(0, len(rows), size):
            batch = [_item(dataset, indices[int(row)], where) for row in rows[start : start + size]]
            with guarded(where, "its collate_fn"):
                together = loader.collate_fn(batch)
            yield _pair(where, together)

    return _part(where, name, len(indices), pairs, seed)


def _indices(loader: Any) -> list[int]:
    """The samples of the dataset that a loader takes."""
    if type(loader.batch_sampler) is not data.BatchSampler:
        return sorted({int(i) for batch in loader.batch_sampler for i in batch})
    if isinstance(loader.sampler, data.SequentialSampler | data.RandomSampler):
        return list(range(len(loader.dataset)))
    return sorted({int(i) for i in loader.sampler})


def _of_stream(
    stream: Iterable[Any], where: str, name: str, seed: int, most: int | None, batches: bool = False
) -> Part:
    """Samples of a stream, read at once, in its order; at most `most`."""
    pairs: list[Pair] = []
    count = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with guarded(where, "reading it"):
            iterator = iter(stream)
        while most is None or count < most:
            with guarded(where, f"the sample after {count}"):
                given = next(iterator, None)
            if given is None:
                break
            inputs, labels = _pair(where, given)
            if not batches:
                inputs, labels = change(inputs, lambda array: array[None]), labels[None]
            pairs.append((inputs, labels))
            count += len(labels)
    if not pairs:
        raise ValueError(f"{where}: the dataset is empty; need at least one sample")
    return in_memory(name, where, *_together(where, pairs), ready=True)


def _pair(where: str, item: Any) -> Pair:
    """Inputs and label of an item or batch."""
    if isinstance(item, Mapping):
        roles = roles_by_part(where, [str(key) for key in item])
        if list(roles) != [ALL]:
            raise ValueError(f"{where}: a sample has keys of several parts ({', '.join(map(str, item))}); return one")
        inputs: Any = {role: item[key] for role, key in roles[ALL].inputs.items()}
        inputs = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        return _arrays(where, inputs), _array(f"{where}: label", item[roles[ALL].labels])
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ValueError(f"{where}: a sample is {_kind(item)}; give (input, label), or a dictionary of both")
    inputs = item[0] if len(item) == 2 else tuple(item[:-1])
    return _arrays(where, inputs), _array(f"{where}: label", item[-1])


def _arrays(where: str, inputs: Any) -> Several:
    several: Several
    if isinstance(inputs, Mapping):
        several = {str(name): _array(f"{where}: input {name}", value) for name, value in inputs.items()}
    elif isinstance(inputs, tuple):
        several = tuple(_array(f"{where}: input {i}", value) for i, value in enumerate(inputs))
    else:
        several = _array(f"{where}: input", inputs)
    return several


def _array(what: str, value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ValueError(f"{what} is a tensor of {value.dtype}, {value.layout}; pass a dense one of plain numbers")
        return value.detach().cpu()
    if isinstance(value, Image.Image):
        pixels = np.asarray(value if value.mode in ("L", "RGB") else value.convert("RGB"))
        return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    if isinstance(value, bool | int | float | np.generic | np.ndarray | list | tuple):
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.empty(0, object)
        if array.dtype.kind in "biuf":
            return array
    raise ValueError(f"{what} is {_kind(value)}, not numbers; convert it to a tensor")


def _together(where: str, pairs: Sequence[Pair]) -> Pair:
    """Pairs of several samples as one."""
    forms = [[tuple(array.shape[1:]) for array in (*each(inputs), labels)] for inputs, labels in pairs]
    odd = next((form for form in forms if form != forms[0]), None)
    if odd is not None:
        first, later = (" and ".join(map(str, form)) for form in (forms[0], odd))
        raise ValueError(
            f"{where}: samples must be of one shape, inputs and labels of the first have {first}, of another {later}; "
            "resize or pad them"
        )
    return join([inputs for inputs, _ in pairs], _joined), _joined([labels for _, labels in pairs])


def _joined(arrays: list[Array]) -> Array:
    if all(isinstance(array, torch.Tensor) for array in arrays):
        return torch.cat([torch.as_tensor(array) for array in arrays])
    return np.concatenate([np.asarray(array) for array in arrays])

"""Networks, tasks and data as a user names them, on the command line and in study files."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

import physcomp
from physcomp.networks.datasets.checks import check_alike, check_disjoint
from physcomp.networks.datasets.parts import ALL, Part, find, meaning
from physcomp.networks.datasets.reading import load_parts, open_source
from physcomp.networks.description import build_module, read_description
from physcomp.networks.device import CPU, checked_device
from physcomp.networks.forward import Pick
from physcomp.networks.loading import called, loaded, module_of
from physcomp.networks.plain_training import seeded
from physcomp.networks.prepared_weights import is_prepared, load_prepared
from physcomp.networks.task import Kind, Task, task_of

NETWORK_FORMS = "a description (.toml), file.py:function or package.module:name"
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors")
CHECKED_BYTES = 1 << 28  # size of data up to which parts that are not used are read, only to be compared; our choice
# Shares of data without parts. However data are cut, `test` is the last quarter, so that no command trains on it.
FOR_TRAINING = {"train": 0.4, "calibration": 0.1, "heldout": 0.25, "test": 0.25}
BESIDE_HELDOUT = {"calibration": 0.75, "test": 0.25}
TRAINING_BESIDE_HELDOUT = {"train": 0.6, "calibration": 0.15, "test": 0.25}


def open_network(
    source: Path | str,
    samples: physcomp.Samples | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    task: str = "classes",
    output: Pick = None,
    device: str = CPU,
) -> physcomp.Network:
    """Open a network as a user names it, and try it on samples.

    Args:
        source: a description (.toml) with its weights beside it, `file.py:function` or `package.module:name`.
        samples: some samples, on which it is tried, and folds of norms are checked; the first two are enough.
        args: what the function or class is called with.
        weights: file of weights (.safetensors, .pt, …), also of a network that `physcomp finetune` trained; None: those
            that the function gives.
        task: `classes`, `binary`, `multilabel`, `regression`, or `file.py:NAME` of a `physcomp.Task`.
        output: name or number of the output that counts, if there are several.
        device: the device of torch on which it runs.

    Raises:
        ValueError: there is no such device, the network cannot be built, it does not take the samples, or the task
            does not fit it.
    """
    text, meant = str(source), open_task(task)
    checked_device(device)
    if text.endswith(".toml"):
        for name, value in (("args", args), ("weights", weights), ("output", output)):
            if value is not None:
                raise ValueError(
                    f"{name}: {text} is a description, which has its weights beside it and one output; leave {name} "
                    "out, or name a function that builds the network, net.py:build"
                )
        network = dataclasses.replace(physcomp.load_network(Path(text)), task=meant)
        if samples is not None:
            network.check(samples)
        return network.on(device)
    _check_source(text)
    trained = weights is not None and is_prepared(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same in every process
        module = module_of(text, args=args, weights=None if trained else weights)
    network = physcomp.wrap(module, name_of(text), samples=samples, task=meant, output=output)
    return (load_prepared(network, weights) if weights is not None and trained else network).on(device)


def open_module(
    source: str, *, args: Mapping[str, Any] | None = None, weights: Path | None = None, seed: int = 0
) -> nn.Module:
    """The module of a network as a user names it, as its function gives it: where a training begins.

    Args:
        source: a description (.toml), `file.py:function` or `package.module:name`.
        args: what the function or class is called with.
        weights: file of weights to begin with; None: those that the function gives, or random ones.
        seed: of random weights.

    Raises:
        ValueError: the network cannot be built, or the weights are not those of its module.
    """
    if source.endswith(".toml"):
        if args is not None or weights is not None:
            raise ValueError(f"{source}: a description takes no --args and no --weights; leave them out")
        description = read_description(Path(source))
        return seeded(lambda: build_module(description), seed)
    _check_source(source)
    if weights is not None and is_prepared(weights):
        raise ValueError(
            f"--weights: {weights} holds a network whose norms are folded, as 'physcomp finetune' writes it; give "
            "weights of the module that the function builds"
        )
    return seeded(lambda: module_of(source, args=args, weights=weights), seed)


def _check_source(text: str) -> None:
    """Refuse what is no function that builds a module."""
    if text.endswith(WEIGHTS):
        raise ValueError(
            f"network: {text} holds weights; name the function that builds the module, net.py:build, and give the "
            f"file as weights"
        )
    if ":" not in text and not text.endswith(".py"):
        raise ValueError(f"network: {text} is none of {NETWORK_FORMS}; name one")


def name_of(source: str) -> str:
    """The name of a network in reports.

    >>> name_of("models/net.py:build"), name_of("package.models:resnet18")
    ('net:build', 'resnet18')
    """
    place, _, name = source.rpartition(":")
    return f"{Path(place).stem}:{name}" if place.endswith(".py") else name


def open_task(text: str) -> Task:
    """The task of a name, or of `file.py:NAME`, which is a `physcomp.Task` or a function that gives one.

    Raises:
        ValueError: there is no such task.
    """
    if ":" not in text:
        names = ", ".join(get_args(Kind))
        if text not in get_args(Kind):
            raise ValueError(f"task: one of {names}, or file.py:NAME of a physcomp.Task, got '{text}'; name one")
        return task_of(text)
    with loaded(text) as found:
        meant = called(found, text, {}) if callable(found) and not isinstance(found, Task) else found
    if not isinstance(meant, Task):
        raise ValueError(f"{text}: must be a physcomp.Task, got a {type(meant).__name__}; name one")
    return meant


def _bytes_of(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file())


@dataclass(frozen=True)
class Data:
    """A source of data as a user names it; see `physcomp.networks.datasets.reading.load_samples`.

    Args:
        source: a file, a folder, or `file.py:function`.
        heldout: another source that the held-out samples come from, all of it unless it has such a part.
        split: shares by part, such as `{"calibration": 0.5, "heldout": 0.25, "test": 0.25}`.
        seed: of the split.
        mean: of each channel.
        sd: standard deviation of each channel.
        size: height and width to which images of folders are scaled and cut.
        limit: at most this many samples of each part.
    """

    source: str
    heldout: str | None = None
    split: Mapping[str, float] | None = None
    seed: int = 0
    mean: tuple[float, ...] | None = None
    sd: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None

    def parts(self, names: Sequence[str]) -> dict[str, physcomp.Samples]:
        """The parts of these names, which share no samples.

        Raises:
            ValueError: a source cannot be read or lacks a part, or parts overlap or differ in form.
        """
        apart = [name for name in names if self.heldout is not None and meaning(name) == "heldout"]
        if not apart or self.heldout is None:
            return self._load(self.source, names, self.split or self._shares(names, FOR_TRAINING, None))
        left = [name for name in names if name not in apart]
        shares = self.split or self._shares(left, TRAINING_BESIDE_HELDOUT, BESIDE_HELDOUT)
        found = self._load(self.source, left, shares) if left else {}
        whole = find(self._opened(self.heldout, apart), apart[0]) is None
        (samples,) = self._load(self.heldout, [ALL] if whole else apart, None).values()
        found = {name: samples if name in apart else found[name] for name in names}
        check_alike(f"{self.source} and {self.heldout}", found)
        return check_disjoint(found)

    def part_apart(self, name: str, beside: Sequence[str] = ("calibration", "heldout")) -> physcomp.Samples:
        """The part of a name, which shares no samples with those on which plans are made.

        This is checked where these are in a file or folder that is not too large; code of the user is trusted.

        Raises:
            ValueError: as `parts`.
        """
        path = Path(self.source)
        if name == ALL or not path.exists() or _bytes_of(path) > CHECKED_BYTES:
            return self.part(name)
        opened = self._opened(self.source, [name])
        named, cut = ({meaning(each) for each in of} for of in ((part.name for part in opened), self.split or ()))
        others = [
            other
            for other in beside
            if other != meaning(name) and (other in (cut if cut else named) or (not cut and named & {"train", ALL}))
        ]
        return self.parts([name, *others])[name]

    def part(self, name: str) -> physcomp.Samples:
        """The part of a name; `all` is everything."""
        return self.parts([name])[name]

    def _shares(
        self, names: Sequence[str], training: dict[str, float], others: dict[str, float] | None
    ) -> dict[str, float] | None:
        """The shares that are ours, of data without parts."""
        shares = training if any(meaning(name) == "train" for name in names) else others
        if shares is None or [part.name for part in self._opened(self.source, names)] != [ALL]:
            return None
        return shares

    def _opened(self, source: str, names: Sequence[str]) -> list[Part]:
        return open_source(source, names, self.seed, self.limit, self.size)

    def _load(
        self, source: str, names: Sequence[str], split: Mapping[str, float] | None
    ) -> dict[str, physcomp.Samples]:
        return load_parts(
            source, names, split=split, seed=self.seed, mean=self.mean, sd=self.sd, limit=self.limit, size=self.size
        )

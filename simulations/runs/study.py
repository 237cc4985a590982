"""A study: a TOML file that says what is stored on which cells, at which budgets, and how often it is read back."""

import dataclasses
import hashlib
import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import devices
import physcomp
from physcomp.codes import parse
from physcomp.codes.base import Over, Storage
from physcomp.codes.menu import DEFAULT, part_of, read_menu
from qubo.solvers import SOLVERS

STUDIES = Path(__file__).parent.parent / "studies"


@dataclass(frozen=True)
class Target:
    """A card and when it is read.

    Args:
        card: its name or file.
        read_time_s: seconds from programming to reading; levels are written for this time.
        read_times_s: several times that all count for the choice, and at each of which results are measured; empty:
            `read_time_s` alone. Where a file names them and no `read_time_s`, levels are written for the last.
        over: what counts of the losses at these times, `mean` or `worst`; see `physcomp.build_models`.
    """

    card: str
    read_time_s: float = 0.0
    read_times_s: tuple[float, ...] = ()
    over: Over = "mean"

    @property
    def measured_s(self) -> tuple[float, ...]:
        """The times at which results are measured."""
        return self.read_times_s or (self.read_time_s,)


@dataclass(frozen=True)
class Study:
    """What a study file says. Paths in the file are relative to it.

    Args:
        name: what it is called; its results go to `runs/NAME` unless told otherwise.
        network: description file of the network.
        images: folder with the parts `calibration`, `heldout` and `t10k`.
        calibration: number of calibration images for the loss model.
        heldout: number of held-out images on which plans are picked.
        test_images: number of test images on which results are measured.
        trials: chips of each plan with analog cells.
        budgets: cells per weight.
        cards: cards and times; results of the first stand at the top of the summary.
        uniform: codes that are each also given to every group, for comparison.
        menu: the codes the joint choice is offered.
        parts: methods that are offered only a part of the menu (`physcomp.codes.menu.part_of`): name and part.
        shrinkages: factors on the couplings that are tried.
        solver: of `qubo.solve`.
        storage: by what digital bits are counted in cells: `bound`, of any code, or `bch`, a code that exists.
        seed: of everything.
        kind: `storage`: what accuracy each method leaves; `protection`: the same as a table of strategies by cells a
            weight; `footprint`: the fewest cells of each method; `calibration`: how well predictions hold.
        strategies: for a protection study, the rows of its table: name, and for each budget a code for every group.
        trained: for a footprint study, folders that `physcomp finetune` made, or patterns of them with `*`.
        image_counts: for a calibration study, calibration images of the models that are compared.
        solvers: for a calibration study, solvers of the same problems, of `qubo.solve`.
        text: the file's own text, with `quick` before it if its quick variant was asked for.
    """

    name: str
    network: Path
    images: Path
    budgets: tuple[float, ...]
    cards: tuple[Target, ...]
    calibration: int = 2000
    heldout: int = 2000
    test_images: int = 4000
    trials: int = 5
    uniform: tuple[str, ...] = ()
    menu: tuple[str, ...] = DEFAULT
    parts: tuple[tuple[str, str], ...] = (("digital codes only", "digital"), ("analog codes only", "analog"))
    shrinkages: tuple[float, ...] = physcomp.Search.shrinkages
    solver: str = physcomp.Search.solver
    storage: Storage = "bound"
    seed: int = 0
    kind: str = "storage"
    strategies: tuple[tuple[str, tuple[str, ...]], ...] = ()
    trained: tuple[str, ...] = ()
    image_counts: tuple[int, ...] = (100, 500, 2000)
    solvers: tuple[str, ...] = ("random", "lagrangian", "annealer")
    text: str = ""

    @property
    def sha256(self) -> str:
        """Fingerprint of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def compared(self) -> tuple[str, ...]:
        """The codes that are each given to every group: `uniform`, and those of the strategies."""
        return tuple(dict.fromkeys((*self.uniform, *(code for _, codes in self.strategies for code in codes))))


NEEDED = ("name", "network", "images", "budgets", "cards")
KINDS = ("storage", "protection", "footprint", "calibration")
ONLY = {"strategies": "protection", "trained": "footprint"}  # fields of one kind of study alone


def load_study(path: Path | str, *, quick: bool = False) -> Study:
    """Read and check a study file.

    Args:
        path: the file.
        quick: lay its table `[quick]` over it, which makes it end within minutes.

    Raises:
        ValueError: no such file, not TOML, or a field is missing, unknown or out of range.
    """
    path = Path(path)
    try:
        text = path.read_text()
        content = tomllib.loads(text)
    except FileNotFoundError:
        known = ", ".join(sorted(str(study) for study in STUDIES.glob("*.toml")))
        raise ValueError(f"{path}: no such study; physcomp ships {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML ({error}); mend that line") from None
    faster = content.pop("quick", None)
    if quick:
        if not isinstance(faster, dict):
            raise ValueError(f"{path}: the study has no table [quick]; run it without --quick, or add one")
        content, text = content | faster, f"# quick\n{text}"
    missing = [name for name in NEEDED if name not in content]
    unknown = sorted(set(content) - {field.name for field in fields(Study)} | ({"text"} & set(content)))
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has the unknown field {', '.join(unknown)}"
        raise ValueError(f"{path}: the study {what}; see {STUDIES / 'demo.toml'} for a whole one")
    try:
        return _check(_study(path, content, text), path)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path}: a field has the wrong form ({error}); see {STUDIES / 'demo.toml'}") from None


def _study(path: Path, content: dict[str, Any], text: str) -> Study:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    values["network"] = (path.parent / content["network"]).resolve()
    values["images"] = (path.parent / content["images"]).resolve()
    values["parts"] = tuple(content["parts"].items()) if "parts" in content else Study.parts
    values["strategies"] = tuple((row, tuple(codes)) for row, codes in content.get("strategies", {}).items())
    values["trained"] = tuple(str(path.parent.resolve() / name) for name in values.get("trained", ()))
    values["cards"] = tuple(_target(path, card) for card in content["cards"])
    return Study(**values, text=text)


def _target(path: Path, content: dict[str, Any]) -> Target:
    values = dict(content)
    if "read_times_s" in values:
        values["read_times_s"] = tuple(float(time) for time in values["read_times_s"])
        values = {"read_time_s": max(values["read_times_s"], default=0.0), **values}
    target = Target(**values)
    if ".toml" not in target.card:
        return target
    return dataclasses.replace(target, card=str((path.parent / target.card).resolve()))


def _check(study: Study, path: Path) -> Study:
    if study.kind not in KINDS:
        raise ValueError(f"{path}: kind is one of {', '.join(KINDS)}, got {study.kind!r}; correct it")
    for name in ("calibration", "heldout", "test_images", "trials"):
        value = getattr(study, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: {name} is a whole number, at least 1, got {value!r}; correct it")
    if not study.budgets or not all(0 < budget < math.inf for budget in study.budgets):
        raise ValueError(f"{path}: budgets are cells per weight above 0, got {list(study.budgets)}; correct them")
    if not study.cards:
        raise ValueError(f"{path}: cards is empty; name at least one, such as {devices.card_names()[0]}")
    if not study.shrinkages or not all(0 <= rho <= 1 for rho in study.shrinkages):
        raise ValueError(f"{path}: shrinkages lie between 0 and 1, got {list(study.shrinkages)}; correct them")
    for name, kind in (("name", str), ("solver", str), ("seed", int)):
        if type(getattr(study, name)) is not kind or (name == "seed" and study.seed < 0):
            raise ValueError(f"{path}: {name} has the wrong form, got {getattr(study, name)!r}; correct it")
    if study.storage not in get_args(Storage):
        raise ValueError(f"{path}: storage is one of {', '.join(get_args(Storage))}, got '{study.storage}'; correct it")
    for solver in (study.solver, *study.solvers):
        if solver not in SOLVERS:
            raise ValueError(f"{path}: solver is one of {', '.join(SOLVERS)}, got '{solver}'; correct it")
    counts_fit = all(type(count) is int and 0 < count <= study.calibration for count in study.image_counts)
    if study.kind == "calibration" and not counts_fit:
        raise ValueError(
            f"{path}: image_counts are whole numbers up to calibration, {study.calibration}, "
            f"got {list(study.image_counts)}; correct them"
        )
    if not all(isinstance(code, str) for code in (*study.menu, *study.compared)):
        raise ValueError(f"{path}: menu, uniform and strategies are names of codes in quotes; correct them")
    study = _named_alike(study)
    for name, values in (("cards", [_place(t) for t in study.cards]), ("budgets", study.budgets),
                         ("uniform", study.uniform)):  # fmt: skip
        if len(set(values)) < len(values):
            raise ValueError(f"{path}: {name} holds the same twice; remove one")
    _check_kind(study, path)
    menu = read_menu((*study.menu, *(name for name in study.compared if name not in study.menu)))
    for method, part in study.parts:
        if not isinstance(part, str):
            raise ValueError(f"{path}: parts name a part of the menu for each method, got {part!r} for '{method}'")
        part_of(menu, part, len(study.menu))
    for target in study.cards:
        for time_s in (target.read_time_s, *target.read_times_s):
            devices.load_card(target.card).check_time(time_s)
    return study


def _named_alike(study: Study) -> Study:
    """The study with every code under its own name, in which options have one order."""
    return dataclasses.replace(
        study,
        menu=tuple(code.name for code in read_menu(study.menu)),
        uniform=tuple(parse(code).name for code in study.uniform),
        strategies=tuple((row, tuple(parse(code).name for code in codes)) for row, codes in study.strategies),
    )


def _place(target: Target) -> tuple[object, ...]:
    """What makes a card and its times the same."""
    return devices.load_card(target.card).name, float(target.read_time_s), target.read_times_s, target.over


def _check_kind(study: Study, path: Path) -> None:
    """What only some kinds of study have or need."""
    for name, kind in ONLY.items():
        if getattr(study, name) and study.kind != kind:
            raise ValueError(f"{path}: {name} belong to a study of kind '{kind}', this is '{study.kind}'; remove them")
    if study.kind == "protection" and not study.strategies:
        raise ValueError(f"{path}: a study of kind 'protection' needs strategies; see {STUDIES / 'protection.toml'}")
    for row, codes in study.strategies:
        if len(codes) != len(study.budgets):
            raise ValueError(
                f"{path}: the strategy '{row}' needs a code for each of {len(study.budgets)} budgets, got {len(codes)}"
            )
    for target in study.cards:
        if target.over not in get_args(Over):
            raise ValueError(f"{path}: over is one of {', '.join(get_args(Over))}, got '{target.over}'; correct it")
        if target.read_times_s and study.kind == "calibration":
            raise ValueError(f"{path}: a calibration study reads at one time; write read_time_s for read_times_s")


def find_parts(study: Study) -> tuple[physcomp.Network, physcomp.Images, physcomp.Images, physcomp.Images]:
    """The network, and the calibration, held-out and test images of a study.

    Raises:
        ValueError: something is missing or too few.
    """
    network = physcomp.load_network(study.network)
    parts = []
    for part, count in (
        ("calibration", study.calibration),
        ("heldout", study.heldout),
        ("t10k", study.test_images),
    ):
        images = physcomp.load_images(study.images, part)
        if len(images) < count:
            raise ValueError(f"{study.images}: {part} has {len(images)} images, the study asks for {count}")
        parts.append(images[:count])
    return network, parts[0], parts[1], parts[2]


def claim(folder: Path, study: Study, network: physcomp.Network, fresh: bool, results: tuple[str, ...]) -> None:
    """Take the folder for this study: empty, of the same study, or emptied of another's results (patterns)."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "study.toml"
    text = f"# network {network.name} sha256 {network.sha256}\n{study.text}"
    if fresh:
        for pattern in ("study.toml", *results):
            for path in folder.glob(pattern):
                path.unlink()
    if mark.exists() and mark.read_text() != text:
        raise ValueError(
            f"{folder}: holds results of another study, or of this one before it or its network changed; "
            "name another folder with --out, or pass --fresh to start anew there"
        )
    mark.write_text(text)

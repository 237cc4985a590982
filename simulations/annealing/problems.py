"""The file of an annealing study, and the problems that it names."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationInfo, model_validator

import physcomp
import qubo
from physcomp.choice.magnitude import hamiltonian
from qubo import files
from qubo.families import Family
from simulations.runs import fields
from simulations.runs.metrics import ALWAYS, Scorer, check_metrics
from simulations.runs.progress import Progress
from simulations.runs.study import NetworkStudy

NETWORK, MAGNITUDE = "network", "magnitude"
"""Names of the problems of a network: its selection problem, and its magnitude Hamiltonian."""
SOLVERS = ("annealer", "lagrangian", "exact", "ocean-sa", "genetic", "reinforce", "random")
"""The solvers that are compared unless others are named."""
BETA = 0.1
"""β of the magnitude Hamiltonian. Our choice: of 0.1, 1, 10 and 100 it had the best accuracy on the embedded network
from 0.5 to 2 cells per weight (measured)."""
CHIPS = 2
"""Chips on which a network's accuracy is measured."""


def seconds(text: str | float) -> float:
    """Seconds of "30", "30s", "2m" or "1h".

    >>> seconds("2m"), seconds("0.5s"), seconds("30")
    (120.0, 0.5, 30.0)
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([smh]?)", str(text).strip())
    value = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"time limit: a time above 0 such as 30, 30s or 2m, got '{text}'; correct it")
    return value


def family_of(name: str) -> tuple[Family, int] | None:
    """Family and number of groups of a random problem such as "Q-200"; None for other names."""
    drawn: Any = re.fullmatch(rf"([{''.join(get_args(Family))}])-(\d+)", name)
    return (drawn[1], int(drawn[2])) if drawn else None


def _problem(name: str, info: ValidationInfo) -> str:
    if Path(name).suffix in files.SUFFIXES:
        return str(fields.beside(Path(name), info))
    if family_of(name) is None and name not in (NETWORK, MAGNITUDE):
        raise ValueError(
            f"problem '{name}': no family with its groups such as Q-200, no {', '.join(files.SUFFIXES)} file, "
            f"not {NETWORK} or {MAGNITUDE}; name one of these"
        )
    return name


BelowOne = Annotated[float, Field(strict=True, gt=0, lt=1)]


class AnnealingStudy(NetworkStudy):
    """The fields of a study of kind `annealing`, besides those of `NetworkStudy`.

    Args:
        problems: "Q-200" for 200 groups of family Q, a `.cqm` or `.coo` file, "network" or "magnitude".
        solvers: names of solvers; on a Hamiltonian those that can solve it, and sorting.
        repeats: runs of each solver on each problem.
        time_limit: time limit of each run, in seconds, or with a unit such as "30s" or "2m".
        target: the gap to the bound that counts as success, as a share.
        codes: codes per group in the families.
        network: for "network" and "magnitude".
        data: for "network".
        card: device of the network.
        read_time_s: seconds from programming to reading.
        budget: cells per weight.
        shrinkage: factor on the couplings.
        removed: least share of the stored bits that the optimum of the magnitude Hamiltonian removes.
        calibration: number of calibration samples for the loss model; None: all.
        test_images: number of samples on which accuracy is measured.
    """

    kind: Literal["annealing"] = "annealing"
    problems: Annotated[tuple[Annotated[str, AfterValidator(_problem)], ...], fields.AtLeastOne, fields.Once]
    solvers: Annotated[tuple[str, ...], fields.AtLeastOne, fields.Once] = SOLVERS
    repeats: fields.Count = 10
    time_limit: Annotated[float, BeforeValidator(seconds)] = 30.0
    target: BelowOne = 0.01
    codes: Annotated[int, Field(strict=True, ge=2)] = 6
    network: fields.Source | None = None
    data: fields.Source | None = Field(None, validation_alias=AliasChoices("data", "images"))
    card: fields.CardName = "pcm-zarcone:one-device"
    read_time_s: fields.Number = 0.0
    budget: fields.Positive = 0.5
    shrinkage: fields.Share = 0.7
    removed: BelowOne = 0.75
    calibration: fields.Count | None = None
    test_images: fields.Count = 2000

    @model_validator(mode="after")
    def _whole(self) -> "AnnealingStudy":
        if {NETWORK, MAGNITUDE} & set(self.problems) and (self.network is None or self.data is None):
            raise ValueError(f"{NETWORK} and {MAGNITUDE} need a network and its data; name both")
        return self


class Bench:
    """The problems of a study by name, without bounds, and the measurement of accuracy for choices of a network.

    Raises:
        ValueError: the budget is infeasible, or a file is missing.
    """

    def __init__(self, study: AnnealingStudy, progress: Progress) -> None:
        self.study, self.progress = study, progress
        self.measured: dict[bytes, dict[str, float]] = {}
        self.scorer: Scorer | None = None
        self.problems = {name: self._problem(name) for name in study.problems}

    def _problem(self, name: str) -> Any:
        study, drawn = self.study, family_of(name)
        if drawn:
            return qubo.generate(drawn[0], groups=drawn[1], codes=study.codes, seed=study.seed)
        if Path(name).suffix in files.SUFFIXES:
            return files.load_selection(name)
        calibration, test = study.samples(calibration="calibration", test="test_images").values()
        network = study.opened(calibration)
        check_metrics(network.task)
        return reward_for(network, study.removed) if name == MAGNITUDE else self._selection(network, calibration, test)

    def _selection(
        self, network: physcomp.Network, calibration: physcomp.Samples, test: physcomp.Samples
    ) -> qubo.Selection:
        study = self.study
        with self.progress.bar("measuring what each code does to each filter") as bar:
            self.model = physcomp.build_model(
                network, calibration, card=study.card, read_time_s=study.read_time_s, seed=study.seed, progress=bar
            )
        self.scorer = Scorer.of(network, test)
        return self.model.selection(study.budget, shrinkage=study.shrinkage)

    def metrics(self, choice: NDArray[np.int64]) -> dict[str, float]:
        """Mean accuracy and loss on test images of a choice of codes, over `CHIPS` chips."""
        assert self.scorer is not None
        key = choice.tobytes()
        if key not in self.measured:
            plan = physcomp.plan_of(self.model, choice, method="anneal", shrinkage=self.study.shrinkage)
            found = []
            for seed in range(self.study.seed, self.study.seed + CHIPS):
                chip = physcomp.store(self.model.network, plan, card=self.model.medium.card, seed=seed)
                found.append(self.scorer.of_state(self.model.network, chip.read_back()))
            self.measured[key] = {name: sum(metrics[name] for metrics in found) / CHIPS for name in ALWAYS}
        return self.measured[key]


def reward_for(network: physcomp.Network, removed: float) -> qubo.Magnitude:
    """The magnitude Hamiltonian with the least reward γ (to 1 %) whose optimum removes a share of the stored bits."""
    low, high = 1e-9, 1e9
    while high > 1.01 * low:
        gamma = (low * high) ** 0.5
        problem = hamiltonian(network, beta=BETA, gamma=gamma)
        best = problem.optimum()
        q = np.array([[(8 - bits) >> k & 1 for k in range(3)] for bits in best.bits])
        low, high = (low, gamma) if problem.terms(np.concatenate(best.pruned), q)[2] >= removed else (gamma, high)
    return hamiltonian(network, beta=BETA, gamma=high)

"""The report of an annealing study: tables, findings in sentences, and a test of two published claims."""

import dataclasses
import math
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from qubo.solvers import SOLVERS
from simulations.annealing.problems import MAGNITUDE, NETWORK, AnnealingStudy
from simulations.annealing.time_to_target import SAME, SolverScore
from simulations.annealing.trials import Problem, SolverRun, fingerprint
from simulations.runs.kind import Section
from simulations.runs.quality import axis_of, said

RIVALS = ("genetic", "reinforce")
"""The methods that Wang et al. compare annealing with."""
COLUMNS = (
    "solver",
    "kind",
    "energy",
    "gap % (range)",
    "at best",
    "TTS99 s (95 %)",
    "reached",
    "raw ok",
    "s",
)


@dataclass(frozen=True, eq=False)
class Findings:
    """The results of an annealing study.

    Attributes:
        study: the study.
        problems: the problems with their bounds.
        runs: the runs of all solvers.
        scores: one score for each problem and solver.
        skipped: why a solver did not run on a problem, by (problem, solver).
        clean_accuracy: metric of the network as trained, on the test samples.
        test_samples: their number.
        metric: what it is, `accuracy` or another.
    """

    study: AnnealingStudy
    problems: tuple[Problem, ...]
    runs: list[SolverRun]
    scores: list[SolverScore]
    skipped: dict[tuple[str, str], str]
    clean_accuracy: float | None
    test_samples: int = 0
    metric: str = "accuracy"

    @property
    def solved(self) -> list[str]:
        """The problems with at least one run."""
        met = {run.problem for run in self.runs}
        return [problem.name for problem in self.problems if problem.name in met]


def sections(findings: Findings) -> list[Section]:
    """The sections to print: a table for each problem, then the findings."""
    found = findings.scores
    tables = [
        Section(heading(found, name), columns(found, name, findings.metric), rows(found, name), names=2, tight=True)
        for name in findings.solved
    ]
    return [*tables, Section(lines=sentences(findings))]


def rows(found: list[SolverScore], problem: str) -> list[tuple[str, ...]]:
    """The table of a problem as text: one row per solver, by ascending median energy."""
    here = sorted((s for s in found if s.problem == problem), key=lambda s: (s.energy[1], s.to_target.seconds))
    table = []
    for s in here:
        gap = [_percent(share) for share in s.gap]
        row = [
            s.solver, s.kind, f"{s.energy[1]:.5g}", f"{gap[1]} ({gap[0]}–{gap[2]})",
            f"{s.at_best}/{s.runs}", _time(s), f"{s.to_target.reached}/{s.runs}",
            "" if s.feasible_before_repair is None else f"{_percent(s.feasible_before_repair)} %",
            f"{s.seconds:.2g}" if s.seconds < 10 else f"{s.seconds:.0f}",
        ]  # fmt: skip
        if s.accuracy is not None:
            row.append(f"{100 * s.accuracy[0]:.1f} ± {100 * s.accuracy[1]:.1f}")
        table.append(tuple(row))
    return table


def columns(found: list[SolverScore], problem: str, metric: str = "accuracy") -> tuple[str, ...]:
    """The heads of the columns of that table."""
    measured = any(s.accuracy is not None for s in found if s.problem == problem)
    return (*COLUMNS, axis_of(metric)) if measured else COLUMNS


def _percent(share: float) -> str:
    """A share as text in per cent, with two digits or as a whole number; "<0.01" for tiny ones."""
    percent = 100 * max(0.0, share)
    if 0 < percent < 0.01:
        return "<0.01" if percent > 100 * SAME else "0"
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def _time(s: SolverScore) -> str:
    time = s.to_target
    if not math.isfinite(time.seconds):
        return "not reached"
    return f"{time.seconds:.2g} ({time.low:.2g}–{f'{time.high:.2g}' if math.isfinite(time.high) else '∞'})"


def heading(found: list[SolverScore], problem: str) -> str:
    """One line about a problem: its size, its bound, and what counts as reached."""
    first = next(s for s in found if s.problem == problem)
    aim = first.target
    best = min(s.energy[0] for s in found if s.problem == problem)
    below = 100 * (best - first.lower_bound) / max(abs(best), 1e-300)
    bound = f"exact optimum {first.lower_bound:.6g}" if problem == MAGNITUDE else f"lower bound {first.lower_bound:.6g}"
    if problem != MAGNITUDE:
        bound += f", {max(0.0, below):.2g} % below the best energy met"
    share = 100 * (aim.energy - aim.reference) / max(abs(aim.reference), 1e-300)
    unit = "variables" if problem == MAGNITUDE else "groups"
    what = "the bound" if aim.proven else "the best energy met (the bound is too far below to be the measure)"
    return f"{problem}: {first.size} {unit}, {bound}. Target: {share:.3g} % above {what}."


def sentences(findings: Findings) -> list[str]:
    """The findings in sentences: both claims for each problem, with runs and spread; and what was not tested."""
    lines, found = [], findings.scores
    for problem in findings.problems:
        here = {s.solver: s for s in found if s.problem == problem.name}
        lines += [_speed(problem.name, here), _optimality(problem, here)]
    lines = [line for line in lines if line]
    skipped = [f"{solver} on {problem}: {why}" for (problem, solver), why in findings.skipped.items()]
    lines += [f"Not run: {line}." for line in skipped]
    kinds = {s.kind for s in found}
    if kinds & {"quantum", "hybrid"}:
        named = sorted({f"{s.solver} ({s.kind})" for s in found if s.kind in ("quantum", "hybrid")})
        lines.append(f"On D-Wave's service: {', '.join(named)}; everything else ran here and is classical.")
    else:
        lines.append(
            "No quantum hardware was used: every solver here is classical, or quantum-inspired and run on a classical "
            "processor. These runs say nothing about a quantum annealer's speed."
        )
    return lines


def _speed(problem: str, here: dict[str, SolverScore]) -> str:
    """Test on one problem the claim that annealing is faster than genetic algorithms and reinforcement learning."""
    annealers, rivals = _annealers(here), [n for n in RIVALS if n in here]
    if not annealers or not rivals:
        return ""
    least = min(here[name].to_target.seconds for name in rivals)
    verdicts: dict[str, list[str]] = {"holds": [], "does not hold": [], "is not decided, for want of time,": []}
    for name in annealers:
        own = here[name].to_target.seconds
        place = 0 if own < least else (1 if math.isfinite(least) else 2)
        list(verdicts.values())[place].append(f"{name} ({here[name].kind})")
    told = "; ".join(_told(here[name]) for name in (*annealers, *rivals))
    verdict = "; ".join(f"{word} for {', '.join(names)}" for word, names in verdicts.items() if names)
    line = f"{problem}, faster than {' and '.join(rivals)}? It {verdict}. TTS99: {told}."
    quickest = min(here.values(), key=lambda s: s.to_target.seconds)
    if quickest.solver not in annealers and math.isfinite(quickest.to_target.seconds):
        line += f" Quickest of all is {quickest.solver}, which does not anneal: {quickest.to_target.seconds:.3g} s."
    return line


def _annealers(here: dict[str, SolverScore]) -> list[str]:
    """The scores of annealers; only "qpu" anneals on quantum hardware, and the Leap services in part."""
    return [name for name in SOLVERS if name in here and SOLVERS[name].anneals]


def _told(s: SolverScore) -> str:
    if not math.isfinite(s.to_target.seconds):
        return f"{s.solver} not in {s.seconds:.3g} s in {s.runs} runs (least gap {100 * s.gap[0]:.3g} %)"
    return f"{s.solver} {_time(s)} s, {s.to_target.reached} of {s.runs} runs"


def _optimality(problem: Problem, here: dict[str, SolverScore]) -> str:
    """Test on one problem the claim that annealing finds global optima."""
    annealers = _annealers(here)
    if not annealers:
        return ""
    best = min(s.energy[0] for s in here.values())
    bound = next(iter(here.values())).lower_bound
    share = max(0.0, best - bound) / max(abs(best), 1e-300)
    if problem.exact:
        near = "The exact optimum was met by" if share <= SAME else "The exact optimum was met by no run; nearest"
    elif share <= SAME:
        near = f"The optimum, proven to {100 * SAME:g} %, was met by"
    else:
        near = f"The best energy met, proven to be within {100 * share:.2g} % of the optimum, was met by"
    told = "; ".join(
        f"{s.solver} ({s.kind}) in {s.at_best} of {s.runs} runs, median gap {100 * max(0.0, s.gap[1]):.3g} %"
        for s in (here[name] for name in (*annealers, *(n for n in RIVALS if n in here)))
    )
    line = f"{problem.name}, global optimum? {near} {told}."
    if problem.exact and "sorting" in here:
        line += f" Sorting, exact, takes {1000 * here['sorting'].seconds:.2g} ms."
    return line


def markdown(findings: Findings) -> str:
    """Tables and findings as a Markdown file that can be read by itself."""
    asked = findings.study
    variant = " (quick variant)" if asked.quick else ""
    lines = [
        f"# Annealing against other searches{variant}",
        "",
        f"{asked.repeats} runs of at most {asked.time_limit:g} s of each solver on each problem, one thread each, "
        f"seeds from {asked.seed}; physcomp {version('physcomp')}, Python {platform.python_version()}. "
        "Seconds depend on the machine and its load; compare them within this file only. TTS99 is the time in which "
        "restarts of the best length reach the target with 99 % confidence, its interval a bootstrap over the runs. "
        "Energy and gap are medians, with the gap's range. At best: runs that ended at the least energy any run met. "
        "Raw ok: share of raw samples "
        "that met every constraint before repair; s: median seconds a run.",
        "",
    ]
    if NETWORK in asked.problems:
        lines += [
            f"The network's selection is at {asked.budget:g} cells/weight on {asked.card}, couplings × "
            f"{asked.shrinkage:g}; {findings.metric} is over {findings.test_samples:,} test samples read back, clean "
            f"network {said(findings.metric, findings.clean_accuracy or 0.0)}.",
            "",
        ]
    for section, name in zip(sections(findings), findings.solved, strict=False):
        head = [_row(section.columns), _row(["---"] * len(section.columns))]
        lines += [f"## {name}", "", section.title, "", *head, *map(_row, section.rows), ""]
    lines += ["## Findings", ""] + [f"- {line}" for line in sentences(findings)]
    return "\n".join(lines) + "\n"


def _row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def summarize(findings: Findings) -> dict[str, Any]:
    """The content of `summary.json`."""
    asked = findings.study
    return {
        "name": asked.name,
        "kind": asked.kind,
        "quick": asked.quick,
        "physcomp": version("physcomp"),
        "python": platform.python_version(),
        "seed": asked.seed,
        "repeats": asked.repeats,
        "time_limit_s": asked.time_limit,
        "metric": findings.metric,
        "clean_accuracy": findings.clean_accuracy,
        "problems": {
            p.name: {
                "size": p.size,
                "sha256": fingerprint(p.problem),
                "lower_bound": p.lower_bound,
                "bound_s": p.bound_s,
            }
            for p in findings.problems
        },
        "scores": [_plain(dataclasses.asdict(s)) for s in findings.scores],
        "skipped": [{"problem": p, "solver": s, "why": why} for (p, s), why in findings.skipped.items()],
        "findings": sentences(findings),
    }


def _plain(value: Any) -> Any:
    """A number for JSON, which has no infinity: null in its place."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The command `physcomp choose`: the code of every filter, within a budget of cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.options import CardName, ImageFolder, NetworkFile, Quiet, ReadTime, SeedOption
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from physcomp.storage.plan import Plan

EXAMPLE = (
    "physcomp choose data/fashion-cnn.toml --images data/fashion-mnist --card pcm-zarcone --budget 1.0 --out plan.json"
)


def choose(
    network: NetworkFile,
    images: ImageFolder,
    card: CardName,
    budget: Annotated[float, typer.Option(help="Cells per weight, everything stored counted.")],
    target: Annotated[Path, typer.Option("--out", help="Plan file to write (JSON).")],
    time_s: ReadTime = 0.0,
    solver: Annotated[
        str, typer.Option(help="Such as annealer, exact or ocean-sa; another name is answered with all.")
    ] = defaults.SOLVER,
    ecc: Annotated[
        Literal["bound", "bch"], typer.Option(help="Bits a cell holds: the bound of any code, or those of a BCH code.")
    ] = "bound",
    seed: SeedOption = 0,
    quiet: Quiet = False,
) -> None:
    """Choose the code of every filter: least loss within a budget of cells, with a bound on what is possible.

    Writes a plan (JSON), which 'physcomp store' takes. Takes about a minute for the embedded network of 100,000
    weights.
    """
    import physcomp
    from physcomp.choice.joint import Search
    from simulations.comparison.plans import JOINT

    loaded = physcomp.load_network(network)
    calibration = physcomp.load_images(images, "calibration")
    heldout = physcomp.load_images(images, "heldout")
    progress = Progress(None if quiet else err)
    with progress.bar("measuring what each code does to each filter") as bar:
        model = physcomp.build_model(
            loaded, calibration, card=card, read_time_s=time_s, ecc=ecc, seed=seed, progress=bar
        )
    with progress.bar("choosing codes") as bar:
        choices = physcomp.choose(
            model, heldout, [budget], search=Search(solver=solver, effort=1.0, seed=seed), progress=bar
        )
    plan = choices.best(budget).named(JOINT)
    plan.save(target)
    proof = plan.proof
    out.print(f"{plan.cells_per_weight:.4f} cells/weight of {budget:g} allowed: " + _ledger(plan))
    kind = "at the bound of any code" if plan.ecc == "bound" else "with a BCH code"
    out.print(f"{plan.bits_per_cell:.3f} digital bits a cell, {kind}")
    out.print("weights by code: " + ", ".join(f"{n} {100 * s:.0f} %" for n, s in plan.share_of_codes().items()))
    if plan.others:
        out.print("kept digital, whatever is chosen: " + ", ".join(other.name for other in plan.others), soft_wrap=True)
    bound = "" if proof.lower_bound is None else f", no choice below {proof.lower_bound:.5f}"
    out.print(f"energy {proof.energy:.5f} nats by {proof.solver} ({proof.kind}){bound}; shrinkage {proof.shrinkage:g}")
    out.print(f"loss on {len(heldout)} held-out images after read-back {proof.heldout_loss:.4f}")
    out.print(str(target))


def _ledger(plan: "Plan") -> str:
    return ", ".join(f"{what} {cells:.0f}" for what, cells in plan.ledger.items() if cells)

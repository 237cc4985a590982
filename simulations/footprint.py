"""The footprint of digital storage: cells a weight of floats, integers and entropy-coded integers, on any card.

Analog storage is to be held against this. Digital storage reads back the same on every card, so that a network's bits
and its accuracy are measured once for each code, and only the bits a cell holds differ: at the bound of any code, and
with a BCH code that exists (`devices.reliable_bits`, `devices.practical_bits`).
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import devices
import physcomp
from devices.files import replacing
from physcomp.sensitivity import Progress
from simulations.study import Target

CODES = ("float32", "digital(8)", "digital(4)", "coded(8)", "coded(4)")


@dataclass(frozen=True)
class Footprint:
    """What one digital code takes on one card.

    Args:
        method: as studies call it, such as `uniform digital(8)`.
        card: name of the card with its variant.
        read_time_s: seconds from programming to reading.
        bits_per_weight: everything stored, scales and biases included.
        accuracy: share of test images classified as labelled after storing and reading back.
        loss: mean cross-entropy in nats.
        bits_per_cell_bound: of any error-correcting code.
        cells_per_weight_bound: at that.
        bits_per_cell_bch: of a BCH code; None where none is strong enough.
        cells_per_weight_bch: at that.
    """

    method: str
    card: str
    read_time_s: float
    bits_per_weight: float
    accuracy: float
    loss: float
    bits_per_cell_bound: float
    cells_per_weight_bound: float
    bits_per_cell_bch: float | None
    cells_per_weight_bch: float | None


def footprint(
    network: physcomp.Network,
    calibration: physcomp.Images,
    test: physcomp.Images,
    targets: Iterable[Target],
    *,
    codes: tuple[str, ...] = CODES,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Footprint, ...]:
    """Store the whole network with each code, read it back, and count its cells on each card.

    Args:
        network: what is stored.
        calibration: images that rounding makes up for its errors on.
        test: images that accuracy is measured on.
        targets: cards and times.
        codes: names of digital codes.
        seed: of the random probes.
        progress: called with the share done.

    Returns:
        A row for each card and code, cards first.

    Raises:
        ValueError: a code that is not digital, or a card outside its range.
    """
    model = physcomp.build_model(network, calibration, card="ideal", menu=codes, seed=seed, progress=progress)
    measured = []
    for code in codes:
        plan = physcomp.uniform_plan(model, code, shrinkage=0.0)
        if not plan.noiseless:
            raise ValueError(f"footprint: of digital codes, got {code}; name float32, digital(bits) or coded(bits)")
        score = physcomp.evaluate_state(network, physcomp.store(network, plan).read_back(), test)
        measured.append((code, plan.cells_per_weight * plan.bits_per_cell, score))
    rows = []
    for target in targets:
        card = devices.load_card(target.card)
        bound, practical = devices.reliable_bits(card, target.read_time_s), _practical(card, target.read_time_s)
        for code, bits, score in measured:
            rows.append(
                Footprint(
                    method=f"uniform {code}",
                    card=card.name,
                    read_time_s=target.read_time_s,
                    bits_per_weight=bits,
                    accuracy=score.accuracy,
                    loss=score.loss,
                    bits_per_cell_bound=bound,
                    cells_per_weight_bound=bits / bound,
                    bits_per_cell_bch=practical,
                    cells_per_weight_bch=None if practical is None else bits / practical,
                )
            )
    return tuple(rows)


def _practical(card: devices.Card, time_s: float) -> float | None:
    """Bits a cell with a BCH code; None where the card's errors are too many for any."""
    try:
        return devices.practical_bits(card, time_s).bits_per_cell
    except ValueError:
        return None


def save_footprint(rows: Sequence[Footprint], path: Path | str) -> None:
    """Write the rows as CSV, under a temporary name first; an empty field where no BCH code is strong enough."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Footprint)])
        writer.writerows(["" if value is None else value for value in astuple(row)] for row in rows)

"""Solvers of the selection problem, against Ocean's simulated annealing on the same problem."""

from typing import Literal

import qubo


def main() -> None:
    """Print the ratios of the room `qubo`."""
    families: tuple[Literal["S", "Q", "R", "D"], ...] = ("S", "Q", "R", "D")
    for family in families:
        selection = qubo.generate(family, groups=200, seed=0)
        proof = qubo.lower_bound(selection)
        ours = qubo.solve(selection, "annealer", certificate=proof)
        theirs = qubo.solve(selection, "ocean-sa", certificate=proof)
        print(
            f"{family}, 200 groups x 6 codes: annealer gap {100 * ours.gap:.2f} %, ocean-sa gap "
            f"{100 * theirs.gap:.2f} % in {theirs.seconds / max(ours.seconds, 1e-9):.1f} x the annealer's time"
        )

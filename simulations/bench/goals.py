"""What the joint choice is meant to reach, held against a finished run of the demonstration:

python -m simulations.bench.goals runs/demo
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Against any other method of as many cells, on test images; 32-bit floats over the cheapest plan within half a point.
LOSS_RATIO = 1.03
ACCURACY_MARGIN = 0.003
FLOAT32_RATIO = 15.0


def lines(summary: dict[str, Any]) -> Iterator[str]:
    """A line for each goal on each card, met or MISSED.

    Args:
        summary: the content of `summary.json`.
    """
    for card in summary["cards"]:
        joint = card["joint"]
        for against in joint["against_others"]:
            ratio, ahead = against["loss_ratio"], against["accuracy_minus_best_other"]
            yield (
                f"{card['card']}, {against['budget_cells_per_weight']:g} cells/weight: {ratio:.3f} × the loss of "
                f"{against['best_other']} (at most {LOSS_RATIO:g}), {100 * ahead:+.2f} points "
                f"(at least {-100 * ACCURACY_MARGIN:g}): {_verdict(ratio <= LOSS_RATIO and ahead >= -ACCURACY_MARGIN)}"
            )
        over = joint["float32_over_cheapest"]
        if over is None:
            yield f"{card['card']}: no joint plan is within half a point, or floats were not measured: MISSED"
        else:
            yield (
                f"{card['card']}: 32-bit floats take {over:.2f} × the cells of the cheapest joint plan within half a "
                f"point (at least {FLOAT32_RATIO:g}): {_verdict(over >= FLOAT32_RATIO)}"
            )


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    print("\n".join(lines(json.loads((Path(sys.argv[1]) / "summary.json").read_text()))))

"""Programming and reading cells, against numpy's normals and a multiply-add over as many."""

import numpy as np

import devices
from simulations.bench.timing import REPEATS, median_s

CELLS = 4_000_000


def _yardstick() -> None:
    """numpy's float32 normals and a multiply-add over as many cells."""
    noise = np.random.default_rng(0).standard_normal(CELLS, dtype=np.float32)
    noise *= np.float32(0.1)
    noise += np.float32(0.5)


def main() -> None:
    """Print the ratios of the room `devices`."""
    levels = np.random.default_rng(1).random(CELLS, dtype=np.float32)
    card = devices.load_card("pcm-nandakumar")
    yard = median_s(_yardstick)
    cells = devices.program(card, levels, seed=0)
    print(f"yardstick: numpy standard_normal + multiply-add, {CELLS:,} float32: {yard:.4f} s (median of {REPEATS})")
    print(f"program pcm-nandakumar: {median_s(lambda: devices.program(card, levels, seed=0)) / yard:.2f} x")
    print(f"read after a day: {median_s(lambda: cells.read(time_s=86400.0)) / yard:.2f} x")

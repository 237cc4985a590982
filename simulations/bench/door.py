"""How long a command takes before it does anything: whole processes against one that imports numpy.

Measure on an idle machine. The bounds are our choice: help within a second on a slow laptop, cards within two.
"""

import statistics
import subprocess
import sys
import time

RUNS = 9
YARDSTICK = ("-c", "import numpy")
BOUNDS = {("--help",): 4.0, ("card", "list"): 8.0}


def wall_s(*arguments: str) -> float:
    """Seconds of a fresh interpreter from start to end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print each command's time in yardsticks; they take turns, so that load on the machine meets both alike."""
    for words, bound in BOUNDS.items():
        command = ("-m", "simulations.cli", *words)
        wall_s(*command)  # writes what Python compiles
        pairs = [(wall_s(*command), wall_s(*YARDSTICK)) for _ in range(RUNS)]
        took, yard = (statistics.median(side) for side in zip(*pairs, strict=True))
        what = f"physcomp {' '.join(words)}"
        print(f"{what}: {took:.2f} s, {took / yard:.1f} x 'python -c \"import numpy\"' (bound {bound:g} x)")


if __name__ == "__main__":
    main()

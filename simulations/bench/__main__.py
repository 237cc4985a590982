"""`make bench`: the speeds of every room, or of those named: `python -m simulations.bench cells annealing`."""

import os
import sys
from importlib import import_module

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

ROOMS = ("door", "cells", "annealing", "models", "plans")


def main() -> None:
    """Run the benchmarks of the rooms named on the command line, or of all."""
    for room in sys.argv[1:] or ROOMS:
        print(f"# {room}", flush=True)
        import_module(f"simulations.bench.{room}").main()


if __name__ == "__main__":
    main()

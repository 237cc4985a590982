"""A residual network of 11 million weights, a decision for each of its 1.2 million kernels, in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import physcomp
import qubo
from physcomp.choice.planning import plan_of

MENU = ("pruned", "digital(1.58)", "digital(2.81)", "digital(4.95)", "sparse(50,digital(2))", "analog(1)")
BUDGET = 0.5


class Block(nn.Module):
    """Two convolutions with norms and a way past them."""

    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        self.past: nn.Module = nn.Identity()
        if stride > 1:
            self.past = nn.Sequential(nn.Conv2d(given, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inside)) + self.past(x))


def residual(width: int) -> nn.Module:
    """ResNet-18 for small images (He et al., arXiv 1512.03385); with 64 filters in front 11.2 million weights."""
    blocks: list[nn.Module] = []
    given = width
    for stage in range(4):
        out = width << stage
        blocks += [Block(given, out, 2 if stage else 1), Block(out, out, 1)]
        given = out
    front = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*front, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, 10))


def peak_bytes() -> int:
    """The largest memory this process took; `getrusage` would count that of the process which started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def plan_it(width: int, images: int, memory_bytes: int) -> dict[str, float]:
    """Build the loss model, choose and make the plan; what came of it, with the largest memory this process took."""
    torch.manual_seed(0)
    network = physcomp.wrap(residual(width), "residual")
    pictures = physcomp.Images(torch.rand(images, 3, 32, 32), torch.zeros(images, dtype=torch.int64))
    shares: list[float] = []
    model = physcomp.build_model(
        network,
        pictures,
        card="pcm-zarcone:one-device",
        menu=MENU,
        granularity="kernel",
        memory_bytes=memory_bytes,
        progress=shares.append,
    )
    built = peak_bytes()
    selection = model.selection(BUDGET, shrinkage=0.0)
    solution = qubo.solve(selection, "lagrangian", seed=0, time_limit_s=60)
    plan = plan_of(model, solution.choice, method="joint", shrinkage=0.0, budget=BUDGET, solution=solution)
    return {
        "weights": model.weights,
        "groups": len(model.loss),
        "ascending": shares == sorted(shares) and shares[-1] == 1,
        "gap": solution.gap,
        "cells_per_weight": plan.cells_per_weight,
        "built_bytes": built,
        "peak_bytes": peak_bytes(),
    }


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def in_a_fresh_process(*arguments: int) -> dict[str, float]:
    """Memory taken before would count otherwise."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@linux
@pytest.mark.slow
def test_a_tenth_of_the_kernels_in_a_tenth_of_the_memory():
    found = in_a_fresh_process(20, 4, 1 << 27)
    assert 130_000 < found["groups"] < 140_000
    assert found["ascending"]
    assert found["gap"] < 0.01
    assert found["cells_per_weight"] <= BUDGET * (1 + 1e-9)
    assert found["built_bytes"] < 1e9  # 0.35e9 of it are the imports


@linux
@pytest.mark.slow
def test_a_million_kernels_of_eleven_million_weights_fit_into_four_gigabytes():
    found = in_a_fresh_process(64, 32, 1 << 30)
    assert found["weights"] > 11e6
    assert found["groups"] > 1.2e6
    assert found["ascending"]
    assert found["gap"] < 0.01
    assert found["cells_per_weight"] <= BUDGET * (1 + 1e-9)
    assert found["peak_bytes"] < 4e9


if __name__ == "__main__":
    width, images, memory = map(int, sys.argv[1:])
    print(json.dumps(plan_it(width, images, memory)))

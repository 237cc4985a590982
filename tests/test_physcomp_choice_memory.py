"""The memory that building a loss model and choosing take, beside the setting: a few copies of the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import physcomp
from physcomp.choice.joint import Search

MEMORY = 200_000_000
COPIES = 6  # of the weights, in float32; measured were 0.94 to 1.00 (building) and 1.07 (choosing) of the whole
IMAGES = 60


def peak_bytes() -> int:
    """The largest memory this process took since it was last forgotten."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def forget() -> None:
    """Count the largest memory from here on."""
    Path("/proc/self/clear_refs").write_text("5")


def network_of(width: int) -> physcomp.Network:
    """A plain convolutional network, with 2.2 million weights for a width of 72."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    given = 3
    for out, stride in ((width, 1), (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2), (8 * width, 2)):
        layers += [nn.Conv2d(given, out, 3, stride, 1), nn.ReLU()]
        given = out
    return physcomp.wrap(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, 10)))


def images_of(size: int) -> physcomp.Samples:
    return physcomp.Samples(torch.rand(IMAGES, 3, size, size), torch.randint(0, 10, (IMAGES,)))


def peaks() -> dict[str, int]:
    """Peaks of building and choosing over what a tiny network takes, which has loaded all libraries and kernels."""
    search = Search(shrinkages=(0.0, 0.7), parts=("all",))

    def run(network: physcomp.Network, images: physcomp.Samples, memory_bytes: int) -> tuple[int, int]:
        forget()
        model = physcomp.build_model(network, images, card="pcm-zarcone", memory_bytes=memory_bytes)
        built = peak_bytes()
        forget()
        physcomp.choose(model, images, [1.0], search=search)
        return built, peak_bytes()

    run(network_of(4), images_of(8), MEMORY)
    network, images = network_of(72), images_of(16)
    forget()
    before = peak_bytes()
    built, chosen = run(network, images, MEMORY)
    return {"weights": network.parameters, "built": built - before, "chosen": chosen - before}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
@pytest.mark.slow
def test_two_million_weights_take_about_the_memory_that_is_set_and_a_few_copies_of_the_weights() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["weights"] > 2_000_000
    most = MEMORY + COPIES * 4 * found["weights"]
    assert found["built"] < 1.05 * most
    assert found["chosen"] < 1.15 * most
    # Rows and errors of all codes at a time would take this much alone.
    assert most < 40 * 4 * found["weights"]


if __name__ == "__main__":
    print(json.dumps(peaks()))

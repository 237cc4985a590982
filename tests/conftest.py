"""What several tests share: the data folder, a tiny network with images, and small cards."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import physcomp

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # results then do not depend on the machine's processors


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return DATA


@pytest.fixture(scope="session")
def tiny() -> physcomp.Network:
    """Two convolutions with a norm, and a linear layer: 4 + 6 + 3 groups, 3 classes, 1 x 8 x 8 pixels."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    module(torch.rand(64, 1, 8, 8))  # running statistics of the norm
    return physcomp.wrap(module, "tiny")


@pytest.fixture(scope="session")
def tiny_images() -> physcomp.Images:
    generator = torch.Generator().manual_seed(1)
    return physcomp.Images(
        torch.rand(40, 1, 8, 8, generator=generator), torch.randint(0, 3, (40,), generator=generator)
    )


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
    """Seven groups of 50 weights, heavy-tailed, the last all zero."""
    weights = np.random.default_rng(2).standard_t(4, (7, 50)).astype(np.float32) * 0.1
    weights[-1] = 0
    return weights

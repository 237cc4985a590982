"""Drift of a chip's analog cells: left as it is, undone by the card's mean, or by factors measured with reads."""

import numpy as np
import pytest

import physcomp
from physcomp.storage.chip import Chip, Drift

DAY, YEAR = 86400.0, 31536000.0


@pytest.fixture(scope="module")
def chip(tiny: physcomp.Network, tiny_images: physcomp.Images) -> Chip:
    """The tiny network on pairs of 16 cells a side, written to be read at once."""
    return stored(tiny, tiny_images, "pcm-nandakumar", "analog(16,pair)")


def stored(network: physcomp.Network, images: physcomp.Images, card: str, code: str) -> Chip:
    model = physcomp.build_model(network, images, card=card, menu=(code,))
    return physcomp.store(network, physcomp.uniform_plan(model, code, shrinkage=0.0), seed=3)


def slopes(network: physcomp.Network, chip: Chip, time_s: float, drift: Drift) -> np.ndarray:
    """Of each layer, by how much weights read at a time are larger than those read at once: a least-squares factor."""
    first = chip.read_back(time_s=0.0, read=1)
    late = chip.read_back(time_s=time_s, read=1, drift=drift)
    names = [f"{layer.name}.weight" for layer in physcomp.layers_of(network.module)]
    before, now = ([state[name].numpy().ravel() for name in names] for state in (first, late))
    return np.array([float(w @ r / (w @ w)) for w, r in zip(before, now, strict=True)])


@pytest.mark.parametrize("time_s", [DAY, YEAR])
def test_weights_shrink_by_the_law_of_drift_unless_it_is_undone(
    tiny: physcomp.Network, chip: Chip, time_s: float
) -> None:
    """At full level the mean exponent is 0.049 from 20 s on; lower levels drift a little faster."""
    law = ((time_s + 20) / 20) ** -0.049
    left = slopes(tiny, chip, time_s, "left")
    assert (left < law + 0.01).all()
    assert (left > law - 0.03).all()
    for undone in ("card", "reads"):
        np.testing.assert_allclose(slopes(tiny, chip, time_s, undone), 1.0, atol=0.02)


def test_the_factor_of_each_layer_is_that_of_its_own_cells(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    """Of pairs the weight is proportional to the difference of two reads, so the factor of a layer goes into it."""
    chip = stored(tiny, tiny_images, "pcm-nandakumar", "analog(1,pair)")
    now, first = chip.cells.read(time_s=YEAR, read=1).astype(np.float64), chip.cells.read(time_s=0.0)
    left, compensated = (chip.read_back(time_s=YEAR, read=1, drift=drift) for drift in ("left", "reads"))
    start, factors = 0, []
    for layer in physcomp.layers_of(tiny.module):
        own = slice(start, start := start + 2 * layer.rows.size)
        factors.append(first[own].mean(dtype=np.float64) / now[own].mean())
        name = f"{layer.name}.weight"
        np.testing.assert_allclose(compensated[name], factors[-1] * left[name], rtol=1e-4, atol=1e-6)
    assert start == chip.cells.levels.size
    assert max(factors) - min(factors) > 0.01  # so one factor for all would be seen


def test_a_card_without_drift_and_a_chip_without_cells_read_alike(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    for code, cells in (("analog(1)", True), ("digital(3)", False)):
        chip = stored(tiny, tiny_images, "ideal", code)
        assert (chip.cells.levels.size > 0) == cells
        states = [chip.read_back(time_s=YEAR, drift=drift) for drift in ("card", "reads", "left")]
        for name, tensor in states[0].items():
            assert all(np.array_equal(tensor, state[name]) for state in states[1:]), name


def test_another_way_to_undo_drift_is_refused(chip: Chip) -> None:
    with pytest.raises(ValueError, match=r"^read-back: drift is one of card, reads, left, got 'time'; name"):
        chip.read_back(drift="time")  # type: ignore[arg-type]

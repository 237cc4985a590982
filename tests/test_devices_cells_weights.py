"""Weights on pairs and on several cells: what averaging gains, and what it does not."""

import math

import numpy as np
import pytest

from devices import program_weights, response


def test_pairs_give_back_the_sign_on_an_ideal_card() -> None:
    w = np.random.default_rng(0).uniform(-1.0, 1.0, (7, 5)).astype(np.float32)
    stored = program_weights("ideal", w, seed=0, copies=2)
    assert stored.cells.levels.shape == (7, 5, 2, 2)
    assert (stored.cells.levels.min(axis=(-1, -2)) == 0.0).all()  # one side of each pair is off
    np.testing.assert_array_equal(stored.read(time_s=1e6), w)


@pytest.mark.parametrize("copies", [1, 2, 4, 8])
def test_the_error_of_equal_cells_falls_as_their_root(copies: int) -> None:
    """Le Gallo et al. 2022: error / sqrt(n) of n equal cells; of a pair the two sides add."""
    n = 50_000
    stored = program_weights("pcm-zarcone", np.full(n, -0.6), seed=1, copies=copies)
    found = stored.read(time_s=0.0).astype(np.float64)
    variance = response("pcm-zarcone", 0.0).variance([0.0, 0.6]).sum() / copies
    assert found.var() == pytest.approx(variance, rel=5.0 * math.sqrt(2.0 / n))
    assert found.mean() == pytest.approx(-0.6, abs=5.0 * math.sqrt(variance / n))


def test_distinct_cells_gain_more_than_re_reads() -> None:
    n = 20_000
    four = program_weights("pcm-zarcone", np.full(n, 0.6), seed=2, copies=4, pairs=False).read(time_s=0.0)
    one = program_weights("pcm-zarcone", np.full(n, 0.6), seed=2, pairs=False)
    again = np.mean([one.read(time_s=0.0, read=k) for k in range(4)], axis=0)
    assert four.std() < 0.7 * again.std()  # √(1/4) against √(0.46 + 0.54/4)


@pytest.mark.parametrize(
    ("weights", "pairs", "line"),
    [
        ([-1.1, 0.0], True, r"weights must lie in \[-1, 1\], not from -1.1 to 0: scale them"),
        ([-0.1, 0.5], False, r"weights must lie in \[0, 1\], not from -0.1 to 0.5: scale them or store them as pairs"),
        ([math.nan], True, r"weights must lie in \[-1, 1\], not from nan to nan"),
    ],
)
def test_weights_out_of_range_are_refused(weights: list[float], pairs: bool, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        program_weights("ideal", weights, seed=0, pairs=pairs)


@pytest.mark.parametrize("copies", [0, -1, True, 2.0, "2", None])
def test_copies_that_are_no_number_are_refused(copies: object) -> None:
    with pytest.raises(ValueError, match=r"^copies must be a whole number from 1 on[^\n]*$"):
        program_weights("ideal", [0.5], seed=0, copies=copies)  # type: ignore[arg-type]

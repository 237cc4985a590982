"""Drift compensation: what one factor a tensor or a group gives back."""

import numpy as np
import pytest

from devices import drift_compensation, program, response

DAY = 86400.0


def test_the_factor_is_the_ratio_of_the_mean_reads() -> None:
    x = np.random.default_rng(0).random(200_000)
    cells = program("pcm-nandakumar", x, seed=1)
    factor = float(drift_compensation(cells, time_s=DAY))
    expected = response("pcm-nandakumar", 0.0).mean(x).mean() / response("pcm-nandakumar", DAY).mean(x).mean()
    assert factor == pytest.approx(expected, rel=2e-3)  # 200,000 cells with an sd of a tenth of their mean
    by_hand = cells.read(time_s=0.0).mean(dtype=np.float64) / cells.read(time_s=DAY, read=1).mean(dtype=np.float64)
    assert factor == pytest.approx(by_hand, rel=1e-12)


def test_compensated_reads_keep_their_mean_over_a_year() -> None:
    cells = program("pcm-nandakumar", np.random.default_rng(2).random(100_000), seed=2)
    fresh = cells.read(time_s=0.0).mean()
    for time_s in (3600.0, DAY, 31536000.0):
        late = cells.read(time_s=time_s) * drift_compensation(cells, time_s=time_s)
        assert late.mean() == pytest.approx(fresh, rel=2e-3)


def test_each_group_has_a_factor_of_its_own() -> None:
    groups = np.repeat([0, 1, 2], 50_000)
    x = np.array([0.02, 0.3, 0.9])[groups]
    cells = program("pcm-nandakumar", x, seed=3)
    factors = drift_compensation(cells, time_s=DAY, groups=groups)
    assert factors.shape == (3,)
    for k in range(3):
        alone = cells.read(time_s=0.0)[groups == k].mean() / cells.read(time_s=DAY, read=1)[groups == k].mean()
        assert factors[k] == pytest.approx(alone, rel=1e-5)
    assert factors[0] > factors[1] + 0.1  # low levels drift faster


def test_a_card_without_drift_needs_no_factor() -> None:
    cells = program("ideal", np.random.default_rng(4).random((10, 10)), seed=4)
    assert float(drift_compensation(cells, time_s=1e6)) == 1.0
    # and a card that is read only at stated times takes the first of them for its reference
    assert float(drift_compensation(program("rram-neurram", [0.5], seed=0), time_s=1.0)) == 1.0


@pytest.mark.parametrize("groups", [[0], [0.0, 1.0], [-1, 0], []])
def test_groups_that_do_not_fit_are_refused(groups: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^groups must be whole numbers from 0 on, one a cell in the shape \(2,\)"):
        drift_compensation(program("ideal", [0.5, 0.5], seed=0), time_s=0.0, groups=groups)


def test_a_group_that_reads_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^drift compensation needs cells that read more than 0 on average, not gro"):
        drift_compensation(program("ideal", [0.5, 0.0], seed=0), time_s=0.0, groups=[0, 1])

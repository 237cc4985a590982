"""The convex relaxation: its price against HiGHS' linear programme, its point against a quadratic programme's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, linprog, minimize
from test_qubo_selection import random_selection

import qubo
from qubo.bounds.convex import Relaxed, gradient, line_dual, pair_slopes, relax, slopes
from qubo.bounds.convexify import convexify
from qubo.search.arrays import lay_out


def table(seed, groups=6, codes=4):
    """Losses and cells of usable codes in front, and how many there are."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, codes + 1, groups)
    kept = np.arange(codes) < count[:, None]
    h = np.where(kept, rng.normal(size=(groups, codes)) * 10.0 ** rng.integers(-2, 3), np.inf)
    return h, np.where(kept, rng.integers(0, 9, (groups, codes)).astype(float), 0.0), count


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.0, 1.2))
def test_the_largest_dual_is_the_linear_programmes_optimum(seed, share):
    """max over λ of Σ min (h + λ cost) − λ budget is the least of Σ h·x on the simplices with Σ cost·x ≤ budget."""
    h, cost, count = table(seed)
    kept = np.isfinite(h)
    low, high = np.where(kept, cost, np.inf).min(axis=1).sum(), cost.max(axis=1).sum()
    budget = low + share * (high - low)
    value, lam = line_dual(h, cost, count, budget)
    groups = np.repeat(np.arange(6), count)
    exact = linprog(
        h[kept], A_ub=cost[kept][None], b_ub=[budget], A_eq=(groups == np.arange(6)[:, None]).astype(float),
        b_eq=np.ones(6), bounds=(0, 1), method="highs",
    )  # fmt: skip
    size = np.abs(h[kept]).sum() + 1
    assert value == pytest.approx(exact.fun, abs=1e-7 * size)
    assert lam >= 0
    at = np.where(kept, h + lam * cost, np.inf).min(axis=1).sum() - lam * budget
    assert at == pytest.approx(value, abs=1e-9 * size)


def test_a_budget_that_does_not_bind_has_no_price():
    h, cost, count = table(3)
    value, lam = line_dual(h, cost, count, 1e6)
    assert (value, lam) == (pytest.approx(h.min(axis=1).sum()), 0.0)


def test_the_price_of_one_group_is_the_slope_of_its_hull():
    # Codes at (0, 9), (1, 5), (3, 4), (4, 0): the hull from 1 to 4 cells has slope 5 / 3, the code at 3 is above it.
    h, cost = np.array([[9.0, 5.0, 4.0, 0.0]]), np.array([[0.0, 1.0, 3.0, 4.0]])
    value, lam = line_dual(h, cost, np.array([4]), 2.0)
    assert lam == pytest.approx(5 / 3)
    assert value == pytest.approx(5 - 5 / 3)


def dense_form(a):
    """The pair form of all variables as one matrix (G·C, G·C)."""
    G, C = a.loss.shape
    full = np.zeros((G * C, G * C))
    for b in range(a.width.size):
        members = a.members[a.start[b] : a.start[b + 1]]
        rows = (members[:, None] * C + np.arange(C)).reshape(-1)
        n, D = rows.size, int(a.width[b])
        part = a.data[a.offset[b] : a.offset[b] + n * (D or n)].reshape(n, -1)
        full[np.ix_(rows, rows)] = part @ part.T if D else part
    return full


def convex_form(seed, *, factors):
    """A small problem's convex form, with its relaxed start."""
    selection = random_selection(seed, groups=5, codes=3, gram=not factors, missing=seed % 2 == 0, block=4)
    with pytest.MonkeyPatch.context() as patch:
        if factors:
            patch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
        layout = lay_out(selection)
        a = convexify(selection, layout).arrays
    kept = layout.kept()
    return selection, layout, a, kept / kept.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_gradients_are_those_of_the_dense_matrix(factors, seed):
    _, layout, a, y = convex_form(seed, factors=factors)
    full = dense_form(a)
    kept = layout.kept()
    H, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    gradient(a, y, H, S)
    out = np.zeros_like(a.loss)
    slopes(a, H, S, out)
    expected = (full @ y.reshape(-1)).reshape(y.shape)
    assert out[kept] == pytest.approx((a.loss + expected)[kept], abs=1e-10)
    assert pair_slopes(a, y)[kept] == pytest.approx(expected[kept], abs=1e-10)


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_relaxing_ends_at_the_least_of_the_convex_form(factors, seed):
    """Against SLSQP on the same simplices, at a price of 0.2."""
    _, layout, a, y = convex_form(seed, factors=factors)
    kept, full = layout.kept(), dense_form(a)
    on = kept.reshape(-1)
    linear, matrix = (a.loss + 0.2 * a.cost)[kept], full[np.ix_(on, on)]
    group = np.repeat(np.arange(5), kept.sum(axis=1))
    H, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    gradient(a, y, H, S)
    start = y[kept].copy()
    taken = relax(a, y, H, S, 0.2, 4000, 1e-10)

    def value(x):
        return linear @ x + 0.5 * x @ matrix @ x

    best = minimize(
        value, start, jac=lambda x: linear + matrix @ x, bounds=[(0, 1)] * start.size, method="SLSQP",
        constraints=LinearConstraint((group == np.arange(5)[:, None]).astype(float), 1, 1),
        options={"maxiter": 500, "ftol": 1e-12},
    )  # fmt: skip
    assert y.sum(axis=1) == pytest.approx(np.ones(5))
    assert y.min() >= 0
    assert (y[~kept] == 0).all()
    assert taken == pytest.approx((y * a.cost).sum(), rel=1e-12)
    size = np.abs(linear).sum() + np.abs(matrix).sum()
    assert value(y[kept]) <= best.fun + 1e-6 * size
    assert value(y[kept]) >= best.fun - 1e-6 * size
    # Fields kept current by the moves are those computed anew.
    kept_h, kept_s = H.copy(), S.copy()
    gradient(a, y, H, S)
    assert kept_h == pytest.approx(H, abs=1e-9)
    assert kept_s == pytest.approx(S, abs=1e-9)


@pytest.mark.parametrize("family", ["Q", "D"])
def test_the_search_over_prices_only_ever_raises_the_bound(family):
    problem = qubo.generate(family, groups=40, seed=2)
    layout = lay_out(problem)
    a = convexify(problem, layout).arrays
    start = layout.kept() / layout.arrays.codes[:, None]
    search = Relaxed(a, layout.limit, start.copy())
    H, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    gradient(a, search.y, H, S)
    search.evaluate(H, S)
    first = search.bound
    search.run(sweeps=20, precision=2e-3)
    assert first < search.bound <= qubo.solve(problem, "lagrangian").energy / layout.scale
    # The relaxed cost meets the budget, and no price nearby does better with that point.
    assert (search.y * a.cost).sum() == pytest.approx(layout.limit, rel=0.02)
    kept = layout.kept()
    h = np.where(kept, a.loss + pair_slopes(a, search.y), np.inf)
    quadratic = float((search.y[kept] * (h - a.loss)[kept]).sum())
    for factor in (0.9, 0.99, 1.01, 1.1):
        lam = factor * search.lam
        dual = (h + lam * a.cost).min(axis=1).sum() - lam * layout.limit - 0.5 * quadratic
        assert dual <= search.bound * (1 + 1e-9)

"""Convex forms: bases of the tangent space, forms on it, and what makes them positive semidefinite for certain."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qubo.bounds.convexify import safe_raise, tangent, tangent_form


@pytest.mark.parametrize("count", [1, 2, 3, 6, 40])
def test_the_tangent_basis_is_orthonormal_and_sums_to_zero(count):
    basis = tangent(count)
    assert basis.shape == (count, count - 1)
    assert basis.T @ basis == pytest.approx(np.eye(count - 1), abs=1e-14)
    assert basis.sum(axis=0) == pytest.approx(np.zeros(count - 1), abs=1e-14)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_the_form_on_the_tangent_space_has_the_same_values(seed, counts):
    rng = np.random.default_rng(seed)
    n = sum(counts)
    matrix = rng.normal(size=(n, n))
    matrix = matrix + matrix.T
    starts = np.cumsum([0, *counts[:-1]])
    form = tangent_form(matrix, starts, np.array(counts))
    inner = n - len(counts)
    assert form.shape == (inner, inner)
    # A vector of the tangent space in both coordinates.
    short = rng.normal(size=inner)
    full, at = np.zeros(n), 0
    for start, count in zip(starts, counts, strict=True):
        full[start : start + count] = tangent(count) @ short[at : at + count - 1]
        at += count - 1
    assert short @ form @ short == pytest.approx(full @ matrix @ full, rel=1e-10, abs=1e-10)


def test_rows_may_lie_apart_as_in_padded_blocks():
    """Groups of 2 and 1 codes in blocks of 3 places: the unused places play no part."""
    matrix = np.arange(36.0).reshape(6, 6)
    matrix = matrix + matrix.T
    form = tangent_form(matrix, np.array([0, 3]), np.array([2, 1]))
    assert form == pytest.approx(np.array([[0.5 * (matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])]]))


def exactly_definite(form):
    """Whether a float matrix is positive definite, by exact elimination over fractions."""
    rows = [[Fraction(float(v)) for v in row] for row in form]
    for i in range(len(rows)):
        if rows[i][i] <= 0:
            return False
        for j in range(i + 1, len(rows)):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return True


KINDS = st.sampled_from(["definite", "singular", "indefinite", "negative", "zero", "tiny", "wide"])


def matrix_of(kind, seed, n):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, n if kind != "singular" else max(1, n // 2)))
    matrix = {
        "indefinite": rows + rows.T if rows.shape[0] == rows.shape[1] else rows @ rows.T,
        "negative": -(rows @ rows.T),
        "zero": np.zeros((n, n)),
        "tiny": 1e-200 * (rows @ rows.T),
        "wide": (rows * 10.0 ** rng.uniform(-6, 6, (n, 1))) @ (rows * 10.0 ** rng.uniform(-6, 6, (n, 1))).T,
    }.get(kind, rows @ rows.T)
    return 0.5 * (matrix + matrix.T)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(KINDS, st.integers(0, 10**6), st.integers(1, 4))
def test_a_raised_form_is_positive_definite_in_exact_arithmetic_and_hardly_raised_too_far(kind, seed, n):
    form = matrix_of(kind, seed, n)
    trace = float(np.abs(np.diag(form)).sum())
    raised = safe_raise(form, trace)
    assert raised >= 0
    assert exactly_definite(form + raised * np.eye(n)) or not form.any()
    # At most a step of the search above what is needed, or a negligible share of the trace.
    needed = max(0.0, -float(np.linalg.eigvalsh(form)[0]))
    size = max(trace, float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps))
    assert raised <= max(16.5 * needed, 2e-9 * size)


def test_nothing_is_raised_where_there_is_nothing():
    assert safe_raise(np.zeros((0, 0)), 0.0) == 0.0
    assert tangent_form(np.ones((2, 2)), np.array([0, 1]), np.array([1, 1])).shape == (0, 0)


def test_a_form_that_is_not_finite_is_refused_in_one_line():
    with pytest.raises(ValueError, match="couplings could not be made convex: check that the Gram matrices are finite"):
        safe_raise(np.array([[np.nan, 0.0], [0.0, 1.0]]), 1.0)

"""COO text: every float comes back to the last bit, whatever its size; comments carry the rest; damage is one line."""

import json
from decimal import Decimal

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import files
from qubo.formats.coo import HEADER, Extra, _decimal, from_text, selection_of, to_text

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(FINITE)
def test_a_decimal_reads_back_to_the_last_bit_and_has_no_exponent(value):
    text = _decimal(value)
    assert float(text) == value
    assert np.signbit(float(text)) == np.signbit(value)
    assert "e" not in text.lower()
    assert float(Decimal(text)) == value


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.dictionaries(st.integers(0, 40), FINITE, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), FINITE), max_size=10),
    FINITE,
    st.sampled_from(["BINARY", "SPIN"]),
)
def test_a_binary_model_of_any_numbers_comes_back_as_it_was(linear, pairs, offset, kind):
    quadratic = {(min(i, j), max(i, j)): value for i, j, value in pairs if i != j}
    bqm = dimod.BinaryQuadraticModel(linear, quadratic, offset, kind)
    again = from_text(to_text(bqm, None))
    assert again.vartype is bqm.vartype
    assert again.offset == bqm.offset
    assert dict(again.linear) == dict(bqm.linear)
    assert {frozenset(pair): v for pair, v in again.quadratic.items()} == {
        frozenset(pair): v for pair, v in bqm.quadratic.items()
    }


def test_lines_are_sorted_and_the_smaller_number_comes_first():
    bqm = dimod.BinaryQuadraticModel({3: 1.0, 0: 0.0}, {(3, 1): 2.5, (1, 0): -1e-7}, 0.25, "BINARY")
    assert to_text(bqm, None).splitlines() == [
        "# vartype=BINARY",
        "# offset=0.25",
        "0 0 0.0",
        "0 1 -0.0000001",
        "1 1 0.0",
        "1 3 2.5",
        "3 3 1.0",
    ]


def test_coefficients_of_a_pair_written_twice_add_up():
    bqm = from_text("# vartype=SPIN\n0 1 1.5\n1 0 2\n2 2 1\n2 2 -4\n")
    assert bqm.quadratic[0, 1] == 3.5
    assert bqm.linear[2] == -3.0
    assert bqm.linear[0] == 0.0


def test_the_last_vartype_counts_and_may_be_written_with_a_colon():
    assert from_text("# vartype=SPIN\n# vartype: BINARY\n0 0 1\n").vartype is dimod.BINARY


def test_an_empty_model_comes_back_empty():
    assert from_text("# vartype=BINARY\n").num_variables == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_comment_about_a_selection_is_json_of_what_the_form_loses(seed):
    selection = random_selection(seed, missing=True)
    extra = Extra.of(selection, 0.5)
    held = json.loads(extra.described()[len(HEADER) :])
    assert set(held) == {"groups", "codes", "budget", "multiplier", "loss", "cost", "own"}
    assert held["budget"] == selection.budget
    assert held["loss"] == selection.loss[selection.offered].tolist()
    assert held["multiplier"] == 0.5
    again = selection_of(to_text(qubo.to_bqm(selection, 0.5), extra))
    for choice in np.ndindex(3, 3, 3, 3):
        assert again.energy(np.array(choice)) == pytest.approx(selection.energy(np.array(choice)), rel=1e-9, abs=1e-9)


def described(**changes):
    """The text of a small selection whose comment says something else."""
    selection = random_selection(1)
    lines = to_text(qubo.to_bqm(selection, 0.5), Extra.of(selection, 0.5)).splitlines()
    held = json.loads(lines[2][len(HEADER) :]) | changes
    return "\n".join([*lines[:2], HEADER + json.dumps(held), *lines[3:]]) + "\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (described(loss=[1.0]), "its variables do not fit its comment about a selection: write it again"),
        (described(cost=[1.0] * 11), "its variables do not fit its comment"),
        (described(groups=3), "its variables do not fit its comment"),
        (described(groups=10**9), "its variables do not fit its comment"),
        (described(codes=10**9), "its variables do not fit its comment"),
        (described(groups=0), "its variables do not fit its comment"),
        (described(codes=2), "its variables do not fit its comment"),
        (described(version=3), "of version 3: read it with a later qubo"),
        (described(cost=[-1.0] * 12), "is -1.0: pass cells, finite and at least 0"),
        (described(budget=None), "p.coo: "),
        (described(colour="blue"), "colour"),
        (described(own=[[1.0]]), "own Gram blocks have shape (1, 1), (4, 6) fits: leave them out"),
        ("# vartype=BINARY\n# offset=much\n0 0 1\n", "could not convert string to float: 'much'"),
        ("# vartype=BINARY\n# offset=nan\n0 0 1\n", "a coefficient is NaN or infinite: correct it"),
        ("# vartype=BINARY\n0 0 1e999\n", "a coefficient is NaN or infinite: correct it"),
        ("# vartype=BINARY\n1.5 0 1\n", "line 2 is not 'i j coefficient', got '1.5 0 1'"),
        (f"# vartype=BINARY\n{'9' * 400} 0 1\n", "a variable has a number"),
        (f"# vartype=BINARY\n{2**60} 0 1\n", "a variable has a number"),
        ("# vartype=TERNARY\n0 0 1\n", "no line '# vartype=BINARY' or SPIN"),
    ],
)
def test_a_damaged_text_is_refused_in_one_line(tmp_path, content, line):
    path = tmp_path / "p.coo"
    path.write_text(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        (files.load_selection if HEADER in content else files.load_bqm)(path)
    assert str(caught.value).startswith(str(path))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


PIECES = ["0", "1", "9", "-", ".", ",", "[", "]", "{", "}", '"', ":", "#", "\n", "e", "n", "null", "1e999"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(PIECES))
def test_a_text_changed_anywhere_is_read_or_refused_in_one_line(tmp_path_factory, seed, piece):
    content = described()
    at = seed % len(content)
    path = tmp_path_factory.getbasetemp() / "changed.coo"
    path.write_text(content[:at] + piece + content[at + 1 :])
    told = ""
    try:
        assert np.isfinite(files.load_selection(path).cost).all()
    except ValueError as error:
        told = str(error)
    assert "\n" not in told

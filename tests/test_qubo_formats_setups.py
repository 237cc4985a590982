"""Setups in Ocean's forms and in files: the same energies and cells on every choice, and nothing lost."""

import json
import zipfile

import dimod
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_qubo_formats_binary import one_hot_sample
from test_qubo_selection import random_selection
from test_qubo_setups import everything, random_setups

import qubo
from qubo import Selection, Setup, files
from qubo.formats import binary
from qubo.formats.constrained import from_cqm
from qubo.formats.setups import uses


def sample_of(selection, choice):
    """The binary sample of a choice, its setups on."""
    sample = one_hot_sample(selection, choice)
    return sample | {use.label: int(any(sample[v] for v in use.users.tolist())) for use in uses(selection)}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_bqm_cqm_and_selection_agree_on_every_choice(seed, gram, missing):
    selection = random_setups(random_selection(seed, gram=gram, missing=missing, block=3), seed)
    bqm, cqm = qubo.to_bqm(selection, 0.7), qubo.to_cqm(selection)
    for choice in everything(selection):
        sample = sample_of(selection, choice)
        energy, cost = selection.energy(choice), selection.total_cost(choice)
        assert bqm.energy(sample) == pytest.approx(energy + 0.7 * (cost - selection.budget), rel=1e-9, abs=1e-9)
        assert cqm.objective.energy(sample) == pytest.approx(energy, rel=1e-12, abs=1e-10)
        assert cqm.check_feasible(sample) == selection.feasible(choice)
        for use in uses(selection):
            if sample[use.label]:  # a setup left out saves its cells, and is refused
                less = sample | {use.label: 0}
                assert not cqm.check_feasible(less)
                assert bqm.energy(less) > bqm.energy(sample)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 3))
def test_ground_states_of_the_lambda_form_have_one_code_per_group_and_their_setups(seed, gram, multiplier):
    selection = random_setups(random_selection(seed, gram=gram), seed)
    found = dimod.ExactSolver().sample(qubo.to_bqm(selection, multiplier)).lowest()
    choices, one_hot = binary.decode(selection, found.record.sample, list(found.variables))
    assert one_hot.all()
    least = min(selection.energy(c) + multiplier * selection.total_cost(c) for c in everything(selection))
    found_least = selection.energy(choices[0]) + multiplier * selection.total_cost(choices[0])
    assert found_least == pytest.approx(least, rel=1e-9, abs=1e-9)
    ground = float(found.record.energy.min()) + multiplier * selection.budget
    assert ground == pytest.approx(least, rel=1e-9, abs=1e-9)


def test_there_is_one_row_and_one_variable_for_each_code_with_a_setup():
    selection = Selection(
        loss=np.ones((3, 2)),
        cost=np.ones((3, 2)),
        budget=99.0,
        setup=(Setup([2, 0], [0.0, 3.0]), Setup([1], [1.0, 2.0])),
    )
    cqm = qubo.to_cqm(selection)
    assert set(cqm.variables) == {*range(6), 7, 8, 9}
    assert dict(cqm.constraints["setup-0-1"].lhs.iter_linear()) == {1: 1.0, 5: 1.0, 7: -2.0}
    assert {"setup-1-0", "setup-1-1"} < set(cqm.constraints)
    assert "setup-0-0" not in cqm.constraints


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), missing=st.booleans(), suffix=st.sampled_from([".cqm", ".coo"]))
def test_a_file_gives_every_setup_back(tmp_path, seed, missing, suffix):
    selection = random_setups(random_selection(seed, missing=missing, block=3), seed)
    files.save(selection, tmp_path / f"p{suffix}", multiplier=None if suffix == ".cqm" else 0.5)
    again = files.load_selection(tmp_path / f"p{suffix}")
    assert again.budget == selection.budget
    assert [s.groups.tolist() for s in again.setup] == [s.groups.tolist() for s in selection.setup]
    assert [s.cost.tolist() for s in again.setup] == [s.cost.tolist() for s in selection.setup]
    for choice in everything(selection):
        assert again.total_cost(choice) == selection.total_cost(choice)
        assert again.energy(choice) == pytest.approx(selection.energy(choice), rel=1e-12, abs=1e-10)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_another_tools_model_has_the_same_setups(seed, missing, single_rows):
    selection = random_setups(random_selection(seed, missing=missing), seed)
    cqm = qubo.to_cqm(selection)
    if single_rows:
        for use in uses(selection):
            cqm.remove_constraint(use.name)
            for v in use.users.tolist():
                cqm.add_constraint([(v, 1.0), (use.label, -1.0)], "<=", 0, label=f"{use.name}-{v}")
    again = from_cqm(cqm, codes=selection.codes)
    for choice in everything(selection):
        assert again.total_cost(choice) == pytest.approx(selection.total_cost(choice), rel=1e-14)


def with_row(change):
    """A constrained model with two setups of one set, but for one change."""
    selection = Selection(
        loss=np.ones((2, 2)), cost=np.ones((2, 2)), budget=99.0, setup=(Setup([0, 1], [2.0, 3.0]),)
    )  # variables 0..3 and 4, 5
    cqm = qubo.to_cqm(selection)
    change(cqm)
    return cqm


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.add_constraint([(0, 1.0), (2, 1.0), (4, -1.0)], "<=", 0, label="few"), "'few' allows only some"),
        (lambda c: c.remove_constraint("setup-0-1"), "each variable must be in exactly one discrete constraint"),
        (lambda c: c.add_constraint([(1, 1.0), (4, -1.0)], "<=", 0), "variable 4 is needed by codes [0, 1]"),
        (lambda c: c.constraints["setup-0-0"].lhs.set_linear(2, 0.0), "variable 4 is needed by some groups of its set"),
        (lambda c: c.constraints["budget"].lhs.set_linear(5, -3.0), "setup.cost[1] is -3.0"),
        (
            lambda c: c.set_objective(dimod.BinaryQuadraticModel({4: 1.0}, {}, "BINARY")),
            "variable 4 is in the objective but in no group",
        ),
    ],
)
def test_a_row_that_is_no_setups_is_refused_in_one_line(change, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_cqm(with_row(change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_setups_has_no_version_and_one_of_a_later_version_is_refused(tmp_path):
    plain = qubo.generate("S", groups=3)
    held = Selection(plain.loss, plain.cost, 1e6, setup=(Setup([0, 1], np.ones(6)),))
    for problem, name in ((plain, "plain"), (held, "held")):
        files.save(problem, tmp_path / f"{name}.coo")
        files.save(problem, tmp_path / f"{name}.cqm")
    assert "version" not in (tmp_path / "plain.coo").read_text()
    with zipfile.ZipFile(tmp_path / "plain.cqm") as archive:
        assert set(json.loads(archive.read(files.MEMBER))) == {"codes", "budget", "own"}
    text = (tmp_path / "held.coo").read_text()
    assert '"version": 2' in text
    (tmp_path / "held.coo").write_text(text.replace('"version": 2', '"version": 3'))
    with zipfile.ZipFile(tmp_path / "held.cqm", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(files.MEMBER, '{"codes": 6, "budget": 1e6, "own": [], "version": 3}')
    for name in ("held.coo", "held.cqm"):
        with pytest.raises(ValueError, match=r"^[^\n]*is of version 3[^\n]*later qubo$"):
            files.load_selection(tmp_path / name)

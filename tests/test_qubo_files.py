"""Files: every form holds the same energies on every family, dimod reads them, and foreign files get one line."""

import math
import zipfile

import dimod
import numpy as np
import pytest
from dimod.serialization import coo as dimod_coo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_qubo_formats_binary import offered_choices, one_hot_sample
from test_qubo_magnitude_hamiltonian import random_layers
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection, files
from qubo.formats import binary
from qubo.formats.constrained import from_cqm


def holed(selection, seed):
    """The same problem with a quarter of its codes not offered, never the last one of a group."""
    mask = np.random.default_rng(seed).random(selection.loss.shape) > 0.25
    mask[:, 0] = True
    return selection.restrict(mask)


def same(first, second):
    assert second.codes == first.codes
    assert np.array_equal(second.offered, first.offered)
    assert np.array_equal(second.loss[second.offered], first.loss[first.offered])
    assert np.array_equal(second.cost[second.offered], first.cost[first.offered])
    assert second.budget == first.budget


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    family=st.sampled_from("SQRD"),
    seed=st.integers(0, 10**6),
    missing=st.booleans(),
    exponent=st.sampled_from([-12, 0, 9]),
)
def test_every_form_on_disk_holds_the_same_energies(tmp_path, family, seed, missing, exponent):
    base = qubo.generate(family, groups=20, codes=4, seed=seed)
    scale = 10.0**exponent
    blocks = tuple(Block.from_factors(b.groups, b.factors * math.sqrt(scale)) for b in base.blocks)
    selection = Selection(loss=base.loss * scale, cost=base.cost, budget=base.budget, blocks=blocks)
    selection = holed(selection, seed) if missing else selection
    lam = 0.3 * scale
    for suffix in (".cqm", ".bqm", ".coo"):
        files.save(selection, tmp_path / f"p{suffix}", multiplier=None if suffix == ".cqm" else lam)
    with (tmp_path / "p.cqm").open("rb") as file:
        cqm = dimod.ConstrainedQuadraticModel.from_file(file)  # dimod itself reads it
    bqms = [files.load_bqm(tmp_path / name) for name in ("p.bqm", "p.coo")]
    again = [files.load_selection(tmp_path / name) for name in ("p.cqm", "p.coo")]
    for other in again:
        same(selection, other)
    penalties = np.abs(binary.one_hot_weights(selection, lam)).sum()
    for choice in offered_choices(selection, 8, seed):
        energy, cost = selection.energy(choice), selection.total_cost(choice)
        # Sums of some hundred terms, each rounded; in the λ form also the penalties that cancel.
        rounding = 1e-13 * np.abs(selection.loss[np.arange(20), choice]).sum()
        sample = one_hot_sample(selection, choice)
        assert cqm.objective.energy(sample) == pytest.approx(energy, rel=1e-12, abs=rounding)
        assert cqm.check_feasible(sample) == selection.feasible(choice)
        for other in again:
            assert other.energy(choice) == pytest.approx(energy, rel=1e-12, abs=rounding)
            assert other.total_cost(choice) == cost
        for bqm in bqms:
            priced = energy + lam * (cost - selection.budget)
            assert bqm.energy(sample) == pytest.approx(
                priced, rel=1e-12, abs=1e-13 * (penalties + lam * selection.budget)
            )


@pytest.mark.parametrize("suffix", [".cqm", ".coo"])
@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
def test_a_problem_read_back_is_solved_to_the_same_energy_with_a_valid_bound(tmp_path, family, suffix):
    problem = qubo.generate(family, groups=40, seed=1)
    files.save(problem, tmp_path / f"p{suffix}")
    again = files.load_selection(tmp_path / f"p{suffix}")
    assert [b.groups.tolist() for b in again.blocks] == [b.groups.tolist() for b in problem.blocks]
    first, second = (qubo.solve(p, seed=2, sweeps=200) for p in (problem, again))
    assert second.energy == pytest.approx(first.energy, rel=1e-2)
    # The groups' own Gram blocks came along, so the bound is as tight but for rounding, which turns its steps.
    assert second.lower_bound == pytest.approx(first.lower_bound, rel=0.05)
    assert max(first.lower_bound, second.lower_bound) <= min(first.energy, second.energy)


@pytest.mark.parametrize("family", ["Q", "D"])
def test_another_tools_copy_has_a_valid_bound_too(family):
    problem = qubo.generate(family, groups=40, seed=1)
    copy = from_cqm(qubo.to_cqm(problem))
    assert qubo.lower_bound(copy).bound <= qubo.solve(problem, seed=2, sweeps=200).energy


def test_dimods_own_reader_takes_our_coo_to_the_last_bit(tmp_path):
    selection = random_selection(4, groups=5, missing=True)
    tiny = Selection(loss=selection.loss * 1e-9, cost=selection.cost, budget=selection.budget, blocks=selection.blocks)
    files.save(tiny, tmp_path / "p.coo", multiplier=0.0)
    with (tmp_path / "p.coo").open() as file:
        read = dimod_coo.load(file)
    ours = files.load_bqm(tmp_path / "p.coo")
    assert dict(read.linear) == dict(ours.linear) == dict(qubo.to_bqm(tiny, 0.0).linear)
    assert {frozenset(k): v for k, v in read.quadratic.items()} == {
        frozenset(k): v for k, v in qubo.to_bqm(tiny, 0.0).quadratic.items()
    }
    assert ours.offset == qubo.to_bqm(tiny, 0.0).offset
    assert set(map(type, ours.variables)) == {int}


def test_our_reader_takes_exponents_and_what_dimod_writes(tmp_path):
    bqm = dimod.BinaryQuadraticModel({0: 1.5, 3: -2.0}, {(0, 3): 0.25}, 0.0, "SPIN")
    (tmp_path / "a.coo").write_text(dimod_coo.dumps(bqm, vartype_header=True))
    assert files.load_bqm(tmp_path / "a.coo") == bqm
    (tmp_path / "b.coo").write_text("# vartype=BINARY\n0 0 1e-12\n\n 1 0 -2.5E+3\n0 0 1e-12\n")
    read = files.load_bqm(tmp_path / "b.coo")
    assert read.linear[0] == 2e-12
    assert read.quadratic[0, 1] == -2500.0


@pytest.mark.parametrize("suffix", [".bqm", ".coo"])
def test_the_magnitude_hamiltonian_comes_back(tmp_path, suffix):
    model = random_layers(2, (3, 5))
    files.save(model, tmp_path / f"m{suffix}")
    read = files.load_bqm(tmp_path / f"m{suffix}")
    for sample in np.random.default_rng(0).integers(0, 2, (20, model.variables)):
        assert read.energy(dict(enumerate(sample))) == pytest.approx(model.decode(sample).energy, rel=1e-12, abs=1e-12)


def test_a_model_of_another_tool_becomes_a_selection(tmp_path):
    x, y, z, a, b = dimod.Binaries(["x", "y", "z", "a", "b"])
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(2 * x + y + 3 * a + 1.5 * x * a - 0.5 * z * b + 7 * x * y + 10)
    cqm.add_constraint(3 * x + 2 * y + 4 * a <= 6, label="cells")
    cqm.add_discrete(["x", "y", "z"])
    cqm.add_constraint(a + b == 1)
    with cqm.to_file() as source:
        (tmp_path / "other.cqm").write_bytes(source.read())
    selection = files.load_selection(tmp_path / "other.cqm")
    assert selection.offered.tolist() == [[True] * 3, [True, True, False]]
    assert selection.budget == pytest.approx(6, rel=1e-11)
    for one, name in enumerate("xyz"):
        for two, other in enumerate("ab"):
            sample = {v: int(v in (name, other)) for v in "xyzab"}
            assert selection.energy([one, two]) == pytest.approx(cqm.objective.energy(sample))
            assert selection.feasible([one, two]) == cqm.check_feasible(sample)


def test_a_thousand_groups_are_written_without_anything_dense(tmp_path):
    problem = qubo.generate("Q", groups=1000)
    files.save(problem, tmp_path / "p.coo", multiplier=0.1)
    assert (tmp_path / "p.coo").stat().st_size < 5e6  # 6,000 variables, some 80,000 couplings
    again = files.load_selection(tmp_path / "p.coo")
    assert len(again.blocks) == len(problem.blocks) == 63
    same(problem, again)


def test_nothing_is_left_behind_but_the_file(tmp_path):
    files.save(qubo.generate("S", groups=2), tmp_path / "p.cqm")
    with pytest.raises(ValueError, match="numbered from 0, got 'x'"):
        files.save(dimod.BinaryQuadraticModel({"x": 1.0}, {}, "BINARY"), tmp_path / "x.coo")
    assert [path.name for path in tmp_path.iterdir()] == ["p.cqm"]


def constrained(change):
    """A constrained model that is a selection but for one change."""
    cqm = qubo.to_cqm(qubo.generate("Q", groups=3, codes=2))
    change(cqm)
    return cqm


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.add_variable("INTEGER", "n"), "variable 'n' is INTEGER"),
        (lambda c: c.add_variable("BINARY", "n"), "each variable must be in exactly one discrete constraint"),
        (lambda c: c.remove_constraint("budget"), "one linear row for its budget, got 0"),
        (lambda c: c.remove_constraint("group-1"), "each variable must be in exactly one discrete constraint"),
        (lambda c: c.add_constraint([(0, 1.0)], "<=", 1, label="more"), "one linear row for its budget, got 2"),
        (lambda c: c.add_constraint([(0, 2.0)], "==", 1, label="odd"), "'odd' is neither one-of-several nor a row"),
        (lambda c: c.add_constraint([(0, 1.0)], ">=", 0, label="up"), "'up' is neither one-of-several nor a row"),
        (lambda c: c.add_constraint([(0, 2, 1.0)], "<=", 0, label="bent"), "'bent' is not linear and hard"),
        (lambda c: c.add_constraint([(0, 1.0)], "<=", 0, label="soft", weight=1.0), "'soft' is not linear and hard"),
        (lambda c: c.constraints["budget"].lhs.set_linear(1, -3.0), "cost[0, 1] is -3.0"),
    ],
)
def test_a_constrained_model_that_is_no_selection_is_refused_in_one_line(change, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_cqm(constrained(change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


COO = "# vartype=BINARY\n"


@pytest.mark.parametrize(
    ("name", "content", "read", "line"),
    [
        ("p.txt", "", files.load_bqm, "unknown format '.txt': end the name in .cqm, .bqm, .coo"),
        ("p.coo", None, files.load_bqm, "no such file"),
        ("p.cqm", None, files.load_selection, "no such file"),
        ("p.cqm", "not a model", files.load_selection, "p.cqm: "),
        ("p.bqm", "not a model", files.load_bqm, "p.bqm: "),
        ("p.bqm", "", files.load_selection, "it is no selection: use load_bqm"),
        ("p.cqm", "", files.load_bqm, "it is no binary model: use load_selection"),
        ("p.coo", COO + "0 0 1.0\n", files.load_selection, "its comments describe no selection"),
        ("p.coo", COO + '# selection={"groups": 1}\n', files.load_selection, "missing"),
        ("p.coo", COO + "# selection={\n", files.load_selection, "p.coo: "),
        ("p.coo", COO + "0 0\n", files.load_bqm, "line 2 is not 'i j coefficient', got '0 0'"),
        ("p.coo", COO + "0 0 nan\n", files.load_bqm, "a coefficient is NaN or infinite"),
        ("p.coo", COO + "0 -1 2.0\n", files.load_bqm, "a variable has a number below 0"),
        ("p.coo", "0 0 1.0\n", files.load_bqm, "no line '# vartype=BINARY' or SPIN"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, name, content, read, line):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [30, 200, 600])
def test_a_cut_off_file_is_refused_in_one_line(tmp_path, keep):
    for name in ("p.cqm", "p.bqm"):
        path = tmp_path / name
        files.save(qubo.generate("D", groups=4), path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"^[^\n]*p\.[bc]qm: [^\n]*$"):
            (files.load_selection if name == "p.cqm" else files.load_bqm)(path)


@pytest.mark.parametrize(
    ("problem", "name", "multiplier", "line"),
    [
        (qubo.generate("S", groups=2), "p.json", None, "unknown format '.json'"),
        (qubo.generate("S", groups=2), "p.cqm", 1.0, "multiplier is only for a selection's λ form"),
        (qubo.generate("S", groups=2), "p.bqm", -1.0, "multiplier must be at least 0, got -1.0"),
        (qubo.generate("S", groups=2), "nowhere/p.bqm", None, "not written: "),
        (random_layers(0, (2,)), "p.cqm", None, ".cqm holds selections, got Magnitude"),
        (random_layers(0, (2,)), "p.coo", 1.0, "multiplier is only for a selection's λ form"),
        (3, "p.bqm", None, "a problem is a Selection, a Magnitude or a dimod model, got int"),
    ],
)
def test_a_bad_save_is_refused_in_one_line(tmp_path, problem, name, multiplier, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        files.save(problem, tmp_path / name, multiplier=multiplier)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_zip_of_a_selection_is_dimods_but_for_one_member(tmp_path):
    problem = qubo.generate("Q", groups=3)
    files.save(problem, tmp_path / "p.cqm")
    with (tmp_path / "p.cqm").open("rb") as file:
        assert dimod.ConstrainedQuadraticModel.from_file(file).is_equal(qubo.to_cqm(problem))
    with zipfile.ZipFile(tmp_path / "p.cqm") as archive:
        assert files.MEMBER in archive.namelist()

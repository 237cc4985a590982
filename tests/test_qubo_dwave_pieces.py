"""Pieces of blocks: nothing left out, reaches as they are, models that follow the best choice and stay in range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection
from qubo.dwave import pieces
from qubo.dwave.embedding import PieceShape
from qubo.search.arrays import lay_out
from qubo.solvers.penalty_loop import Task


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 6))
def test_every_group_is_in_exactly_one_piece_of_at_most_so_many(groups: int, most: int, number: int) -> None:
    a = lay_out(qubo.generate("D", groups=groups, codes=3)).arrays
    cuts, alone = pieces.cut(a, most, number)
    assert alone == []
    assert np.concatenate([piece.groups for piece in cuts]).tolist() == list(range(groups))
    assert max(piece.groups.size for piece in cuts) <= most
    for piece in cuts:
        members = a.members[a.start[piece.block] : a.start[piece.block + 1]]
        assert members[piece.first : piece.first + piece.groups.size].tolist() == piece.groups.tolist()


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_neighbours_meet_in_a_piece_in_some_round(most: int) -> None:
    a = lay_out(qubo.generate("Q", groups=16, codes=3)).arrays
    together = set()
    for number in range(4):
        for piece in pieces.cut(a, most, number)[0]:
            together |= set(zip(piece.groups[:-1].tolist(), piece.groups[1:].tolist(), strict=True))
    assert together == {(g, g + 1) for g in range(15)}


def test_groups_alone_are_pieces_of_their_own_if_they_have_a_choice() -> None:
    selection = random_selection(1, groups=6, block=3)
    mask = np.ones((6, 3), dtype=bool)
    single = int(np.flatnonzero(~np.isin(np.arange(6), selection.blocks[0].groups))[0])
    mask[single] = [True, False, False]
    a = lay_out(selection.with_budget(1e9).restrict(mask)).arrays
    _, alone = pieces.cut(a, 3, 0)
    inside = set(selection.blocks[0].groups.tolist()) | {single}
    assert {int(piece.groups[0]) for piece in alone} == set(range(6)) - inside
    assert all((piece.block, piece.first) == (-1, 0) for piece in alone)


@pytest.mark.parametrize("factors", [False, True])
def test_reaches_are_those_of_the_families(monkeypatch: pytest.MonkeyPatch, factors: bool) -> None:
    if factors:  # factors are not looked into: every pair may be coupled
        monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    for family, reach in (("Q", 2), ("R", 2), ("D", 15)):
        a = lay_out(qubo.generate(family, groups=20)).arrays  # type: ignore[arg-type]
        # The second block of four groups keeps its Gram matrix: it is smaller than its factors.
        wide = 15 if factors else reach
        assert pieces.reaches(a)[0] == wide
        assert pieces.shapes(a) == (PieceShape(16, 6, wide), None)


def test_shapes_of_a_problem_without_couplings_and_of_one_without_a_choice() -> None:
    assert pieces.shapes(lay_out(qubo.generate("S", groups=4)).arrays) == (None, PieceShape(1, 6, 0))
    fixed = Selection(loss=[[1.0], [2.0]], cost=[[1.0], [1.0]], budget=2.0)
    assert pieces.shapes(lay_out(fixed).arrays) == (None, None)
    one = Selection(
        loss=[[1.0, 2.0]], cost=[[1.0, 0.0]], budget=2.0, blocks=(Block.from_factors([0], np.ones((1, 2, 1))),)
    )
    assert pieces.shapes(lay_out(one).arrays) == (PieceShape(1, 2, 0), None)


def task_of(selection: Selection, seed: int, *, growth: float = 1.0) -> tuple[Task, pieces.Modeller]:
    layout = lay_out(selection)
    rng = np.random.default_rng(seed)
    best, first = rng.integers(0, layout.arrays.codes), np.ones(selection.groups)
    task = Task(selection, layout, 0.2, growth * first, 0.1, 0, 0, best)
    return task, pieces.Modeller(task, first)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 5))
def test_fields_inside_and_outside_a_piece_add_up_to_the_blocks_couplings(seed: int, gram: bool, most: int) -> None:
    selection = random_selection(seed, groups=5, codes=3, gram=gram, missing=True).with_budget(1e9)
    task, modeller = task_of(selection, seed)
    a = task.layout.arrays
    C = a.loss.shape[1]
    for piece in pieces.cut(a, most, 1)[0]:
        couplings, outside = modeller.fields(piece)
        m = piece.groups.size
        assert couplings.shape == (m, C, m, C)
        for i in range(m):
            assert (couplings[i, :, i] == 0).all()  # a group's own block is part of its loss
        chosen = couplings[:, :, np.arange(m), task.best[piece.groups]].sum(axis=2) + outside
        for i, g in enumerate(piece.groups):
            for k in range(a.codes[g]):
                choice = task.best.copy()
                choice[g] = k
                energies = []
                for codes in (choice, task.best):
                    energies.append(selection.energy(task.layout.decode(codes)) / task.layout.scale)
                change = a.loss[g, k] - a.loss[g, task.best[g]] + chosen[i, k] - chosen[i, task.best[g]]
                assert change == pytest.approx(energies[0] - energies[1], abs=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans())
def test_a_model_has_a_variable_a_usable_code_and_coefficients_within_range(seed: int, gram: bool) -> None:
    selection = random_selection(seed, groups=5, codes=4, gram=gram, missing=True, block=4).with_budget(1e9)
    task, modeller = task_of(selection, seed)
    a = task.layout.arrays
    blocks, alone = pieces.cut(a, 2, 0)
    for piece in (*blocks, *alone):
        model = modeller.model(piece)
        kept = np.isfinite(a.loss[piece.groups])
        assert sorted(model.bqm.variables) == np.flatnonzero(kept.reshape(-1)).tolist()
        assert 0 <= model.clipped <= 1
        groups = [[v for v in model.bqm.variables if v // a.loss.shape[1] == i] for i in range(piece.groups.size)]
        for members in groups:
            for i, u in enumerate(members):
                for v in members[:i]:
                    assert model.bqm.quadratic[u, v] > 0  # two codes of one group cost


def test_one_hot_weights_grow_with_those_of_the_loop() -> None:
    selection = random_selection(3, groups=4)
    (piece,), _ = pieces.cut(lay_out(selection).arrays, 4, 0)
    offsets = [task_of(selection, 3, growth=growth)[1].model(piece).bqm.offset for growth in (1.0, 2.0)]
    assert offsets[1] == pytest.approx(2 * offsets[0])

"""The table of what becomes of each tensor: every tensor of every network of the zoo once, and numbers that add up."""

import re

import pytest
import torch
from zoo import CASES, WARNINGS

import physcomp
from physcomp.choice.tensor_table import TensorRow, as_lines, tensor_table
from physcomp.networks.plain_modules import plain
from physcomp.networks.survey import survey

TAKEN = [name for name, case in CASES.items() if not case.refused]
pytestmark = [pytest.mark.filterwarnings(f"ignore:{re.escape(text)}") for text in WARNINGS]


def rows_of(name: str) -> dict[str, TensorRow]:
    case = CASES[name]
    samples = physcomp.Samples(case.inputs(6), case.labels(6))
    network = physcomp.wrap(case.build(), name, samples=samples, **case.task)
    rows = tensor_table(network, survey(network, samples))
    assert sum(row.parameters for row in rows) == network.parameters
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


@pytest.mark.parametrize("name", TAKEN)
def test_every_tensor_is_in_the_table_once_and_parameters_add_up(name: str) -> None:
    rows, module = rows_of(name), plain(CASES[name].build())
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    state = {each: tensor for each, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    for each, tensor in {**state, **dict(named)}.items():
        assert rows[each].shape == tuple(tensor.shape)
    assert sum(row.parameters for row in rows.values()) == sum(each.numel() for each in module.parameters())
    for row in rows.values():
        assert (row.groups > 0) == (row.fate == "cells")
        assert row.how
        assert row.fate == "digital" or not row.bits


def test_the_table_says_what_becomes_of_tensors_of_every_sort() -> None:
    wanted = {
        ("lenet", "0.weight"): ("Conv2d", "cells", "convolution"),
        ("lenet", "0.bias"): ("Conv2d", "digital", "bias of 0, set so that it makes up for errors"),
        ("alias", "again.weight"): ("Linear", "left out", "the same tensor as first.weight"),
        ("batch-statistics", "1.weight"): ("BatchNorm2d", "digital", "of a norm that could not be folded"),
        ("lstm", "inner.weight_hh_l0"): ("LSTM", "cells", "torch.func"),
        ("causal-model", "block.mask"): ("buffer", "digital", "a buffer"),
        ("causal-model", "words.weight"): ("Embedding", "cells", "lookup"),
        ("mlp-batch-norm", "1.running_var"): ("BatchNorm1d", "left out", "folded into the layer before it"),
    }
    tables = {name: rows_of(name) for name, _ in wanted}
    rows = {each: tables[each[0]][each[1]] for each in wanted}
    assert {each: (row.kind, row.fate, row.how) for each, row in rows.items()} == wanted


def test_multiplications_and_bits_are_those_of_the_shapes() -> None:
    rows = rows_of("mlp")
    work = {name: row.multiplications for name, row in rows.items() if row.fate == "cells"}
    assert work == {name: rows[name].numbers for name in work}  # each weight once a sample
    assert all(row.bits == 16 * row.numbers for row in rows.values() if row.fate == "digital")


def test_lines_of_the_table_are_aligned_and_end_without_blanks() -> None:
    rows = tuple(rows_of("alias").values())
    lines = as_lines(rows, 63)
    assert len(lines) == 1 + len(rows)
    assert all(line == line.rstrip() for line in lines)
    assert lines[0].index("how or why") == lines[1].index("linear") == lines[-1].index("the same tensor")

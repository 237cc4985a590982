"""The ledger: what is appended is there again, and what a killed or foreign hand left is dropped or refused."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.runs.ledger import Ledger, Row

COLUMNS = tuple(field.name for field in fields(Row))

ROW = Row(
    card="pcm-zarcone:one-device",
    read_time_s=0.0,
    method="joint, no couplings",  # its comma has to survive the CSV
    budget=0.5,
    cells_per_weight=0.4998076923076923,
    plan="31a4642d4afd",
    trial=0,
    seed=5,
    loss=0.12174010463183095,
    accuracy=0.97,
)
ROWS = [ROW, replace(ROW, budget=None, method="uniform float32"), replace(ROW, trial=1, read_time_s=86400.0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials.csv"


def filled(path: Path) -> bytes:
    ledger = Ledger(path, Row)
    for row in ROWS:
        ledger.append(row)
    return path.read_bytes()


def test_a_new_ledger_is_a_header_and_no_rows(path: Path) -> None:
    assert Ledger(path, Row).rows == []
    assert path.read_text() == ",".join(COLUMNS) + "\n"


def test_appended_rows_are_there_when_the_ledger_is_opened_again(path: Path) -> None:
    content = filled(path)
    assert Ledger(path, Row).rows == ROWS
    assert path.read_bytes() == content


def test_rows_are_in_the_file_as_soon_as_append_returns(path: Path) -> None:
    ledger = Ledger(path, Row)
    for count, row in enumerate(ROWS, start=1):
        ledger.append(row)
        assert Ledger(path, Row).rows == ROWS[:count] == ledger.rows


@settings(max_examples=50, deadline=None)
@given(
    loss=st.floats(0, 1e6, allow_nan=False),
    cells=st.floats(1e-9, 1e9),
    budget=st.none() | st.floats(1e-6, 1e3),
    method=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
)
def test_every_number_and_name_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, loss: float, cells: float, budget: float | None, method: str
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "trials.csv"
    row = replace(ROW, loss=loss, cells_per_weight=cells, budget=budget, method=method)
    Ledger(path, Row).append(row)
    assert Ledger(path, Row).rows == [row]


def test_a_half_written_last_line_is_dropped_wherever_it_was_cut(path: Path) -> None:
    whole = filled(path)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = max(0, whole[:cut].count(b"\n") - 1)
        ledger = Ledger(path, Row)
        assert ledger.rows == ROWS[:kept]
        for row in ROWS[kept:]:
            ledger.append(row)
        assert path.read_bytes() == whole


def damaged(path: Path, old: bytes, new: bytes) -> str:
    """What is said of a ledger whose second of three rows was changed."""
    content = filled(path)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="damaged") as caught:
        Ledger(path, Row)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"uniform float32,,0.4998076923076923", b"uniform float32,,0.49x"),
        (b"uniform float32,,0.4998076923076923,31a4642d4afd,0,5", b"uniform float32"),
        (b"0.97\npcm-zarcone:one-device,0.0,uniform", b"0.97\npcm-zarcone:one-device,soon,uniform"),
        (b"uniform float32,,", b"\0\0\0\0"),
        (b"uniform float32,,", b'"uniform float32,,'),
        (b"uniform float32,,", b"uniform float32,,,"),
    ],
)
def test_a_damaged_line_in_the_middle_is_refused_in_one_line_that_names_the_file(
    path: Path, old: bytes, new: bytes
) -> None:
    message = damaged(path, old, new)
    assert str(path) in message
    assert "\n" not in message


def test_a_line_with_more_values_than_columns_is_refused(path: Path) -> None:
    """Two lines that ran into each other: the first's accuracy still reads as a number."""
    content = filled(path).splitlines(keepends=True)
    path.write_bytes(content[0] + content[1].rstrip(b"\n") + b"," + content[2] + content[3])
    with pytest.raises(ValueError, match="damaged"):
        Ledger(path, Row)


def test_bytes_that_are_no_text_are_refused_with_the_name_of_the_file(path: Path) -> None:
    path.write_bytes(filled(path).replace(b"uniform", b"\xff\xfe\xfd"))
    with pytest.raises(ValueError, match=str(path)) as caught:
        Ledger(path, Row)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\n", "{}\n", ",".join(reversed(COLUMNS)) + "\n"])
def test_another_kind_of_csv_is_refused_and_left_as_it_is(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ValueError, match="not a ledger") as caught:
        Ledger(path, Row)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == content


def test_the_key_tells_apart_what_is_measured_separately() -> None:
    assert replace(ROW, loss=1.0, accuracy=0.1, seed=9).key == ROW.key
    for change in ({"card": "ideal"}, {"read_time_s": 1.0}, {"method": "joint"}, {"plan": "0" * 12}, {"trial": 1}):
        assert replace(ROW, **change).key != ROW.key

"""The ledger: what is appended is there again, and what a killed or foreign hand left is dropped or refused."""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.runs.ledger import Entry, Ledger


class Key(NamedTuple):
    card: str
    read_time_s: float
    method: str
    budget: float | None
    trial: int


COLUMNS = (*Key._fields, "metrics")
KEY = Key("pcm-zarcone:one-device", 0.0, "joint, no couplings", 0.5, 0)  # its comma has to survive the CSV
FOUND = {"loss": 0.12174010463183095, "accuracy": 0.97}
TRIALS = [
    Entry(KEY, FOUND),
    Entry(KEY._replace(budget=None, method="uniform float32"), {"loss": 0.25, "accuracy": 0.5}),
    Entry(KEY._replace(trial=1, read_time_s=86400.0), FOUND),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials.csv"


def filled(path: Path) -> bytes:
    ledger = Ledger(path, Key)
    for trial in TRIALS:
        ledger.append(trial)
    return path.read_bytes()


def test_a_new_ledger_is_a_header_and_no_rows(path: Path) -> None:
    assert Ledger(path, Key).entries == []
    assert path.read_text() == ",".join(COLUMNS) + "\n"


def test_appended_rows_are_there_when_the_ledger_is_opened_again(path: Path) -> None:
    content = filled(path)
    assert Ledger(path, Key).entries == TRIALS
    assert path.read_bytes() == content


def test_rows_are_in_the_file_as_soon_as_append_returns(path: Path) -> None:
    ledger = Ledger(path, Key)
    for count, trial in enumerate(TRIALS, start=1):
        ledger.append(trial)
        assert Ledger(path, Key).entries == TRIALS[:count] == ledger.entries


@settings(max_examples=50, deadline=None)
@given(
    loss=st.floats(0, 1e6, allow_nan=False),
    time_s=st.floats(0, 1e9),
    budget=st.none() | st.floats(1e-6, 1e3),
    method=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
)
def test_every_number_and_name_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, loss: float, time_s: float, budget: float | None, method: str
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "trials.csv"
    trial = Entry(
        KEY._replace(read_time_s=time_s, budget=budget, method=method), {f"of {method}": loss, "course": [[loss, 1]]}
    )
    Ledger(path, Key).append(trial)
    assert Ledger(path, Key).entries == [trial]


def test_a_half_written_last_line_is_dropped_wherever_it_was_cut(path: Path) -> None:
    whole = filled(path)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = max(0, whole[:cut].count(b"\n") - 1)
        ledger = Ledger(path, Key)
        assert ledger.entries == TRIALS[:kept]
        for trial in TRIALS[kept:]:
            ledger.append(trial)
        assert path.read_bytes() == whole


def damaged(path: Path, old: bytes, new: bytes) -> str:
    """What is said of a ledger whose second of three rows was changed."""
    content = filled(path)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="damaged") as caught:
        Ledger(path, Key)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"float32,,0,", b"float32,,0x,"),
        (b"float32,,0,", b"float32,0,"),
        (b"0.0,uniform float32", b"soon,uniform float32"),
        (b"float32,,0,", b"float32,,,0,"),
        (b'float32,,0,"{""loss"": 0.25, ""accuracy"": 0.5}"', b"float32,,0,0.25"),
        (b'float32,,0,"{""loss"": 0.25, ""accuracy"": 0.5}"', b"float32,,0"),
        (b'""loss"": 0.25, ', b'""loss"": 0.25 '),
        (b"uniform float32,,", b"\0\0\0\0"),
        (b"uniform float32,,", b'"uniform float32,,'),
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
        Ledger(path, Key)


def test_bytes_that_are_no_text_are_refused_with_the_name_of_the_file(path: Path) -> None:
    path.write_bytes(filled(path).replace(b"uniform", b"\xff\xfe\xfd"))
    with pytest.raises(ValueError, match=str(path)) as caught:
        Ledger(path, Key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\n", "{}\n", ",".join(reversed(COLUMNS)) + "\n"])
def test_another_kind_of_csv_is_refused_and_left_as_it_is(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ValueError, match="not a ledger") as caught:
        Ledger(path, Key)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == content


def test_the_frame_has_a_typed_row_for_each_trial_that_is_wanted(path: Path) -> None:
    filled(path)
    ledger = Ledger(path, Key)
    frame = ledger.frame({trial.key for trial in TRIALS[:2]})
    assert dict(frame.schema) == {
        "card": pl.String, "read_time_s": pl.Float64, "method": pl.String, "budget": pl.Float64, "trial": pl.Int64,
        "loss": pl.Float64, "accuracy": pl.Float64,
    }  # fmt: skip
    assert frame.rows() == [(*trial.key, *trial.metrics.values()) for trial in TRIALS[:2]]


def test_a_metric_that_older_trials_lack_changes_no_format(path: Path) -> None:
    filled(path)
    more: dict[str, Any] = {**FOUND, "agreement": 0.75}
    Ledger(path, Key).append(Entry(KEY._replace(trial=2), more))
    ledger = Ledger(path, Key)
    assert ledger.frame({trial.key for trial in ledger.entries})["agreement"].to_list() == [None, None, None, 0.75]


def refusal(path: Path, content: bytes) -> str:
    """What is said of a ledger whose trials all have a loss."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as caught:
        Ledger(path, Key, ("loss",))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (b"{}", "a name and a value or more, got {}"),
        (b"[]", "metrics are a JSON object"),
        (b'{""loss"": NaN, ""accuracy"": 0.5}', "the metric loss is NaN"),
        (b'{""loss"": 0.25, ""accuracy"": NaN}', "the metric accuracy is NaN"),
        (b'{""loss"": Infinity}', "the metric loss is a finite number, got inf"),
        (b'{""loss"": 1e999}', "the metric loss is a finite number, got inf"),
        (b'{""loss"": ""0.25"", ""accuracy"": 0.5}', "the metric loss is a finite number, got '0.25'"),
        (b'{""loss"": true}', "the metric loss is a finite number, got True"),
        (b'{""accuracy"": 0.5}', "the metric loss is a finite number, got None"),
        (b'{""loss"": 0.25, ""budget"": 0.5}', "the metric budget has the name of a column"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_metrics_that_no_run_could_have_written_are_refused_with_their_line(
    path: Path, metrics: bytes, told: str
) -> None:
    whole = b'{""loss"": 0.25, ""accuracy"": 0.5}'
    content = filled(path)
    assert content.count(whole) == 1
    message = refusal(path, content.replace(whole, metrics))
    assert message.startswith(f"{path}, line 3: damaged (")
    assert told in message


@pytest.mark.parametrize(
    ("old", "new"), [(b",86400.0,", b",nan,"), (b",86400.0,", b",inf,"), (b"0.5,1,", b"0.5,1%s," % (b"0" * 20))]
)
def test_a_key_that_no_table_could_hold_is_refused_with_its_line(path: Path, old: bytes, new: bytes) -> None:
    assert refusal(path, filled(path).replace(old, new)).startswith(f"{path}, line 4: damaged (")


def test_a_trial_that_could_not_be_read_back_is_not_written(path: Path) -> None:
    content = filled(path)
    ledger = Ledger(path, Key, ("loss",))
    for metrics in ({}, {"loss": float("nan")}, {"loss": "0.25"}, {"loss": 0.25, "trial": 1}):
        with pytest.raises(ValueError, match="nothing was written"):
            ledger.append(Entry(KEY._replace(trial=9), metrics))
    assert path.read_bytes() == content
    assert ledger.entries == TRIALS


@pytest.mark.parametrize(
    ("old", "new"), [(b"", b""), (b"86400.0", b"86400"), (b"86400.0", b"8.64e4"), (b"0.97", b"0.970")]
)
def test_a_trial_that_stands_twice_counts_once(path: Path, old: bytes, new: bytes) -> None:
    content = filled(path)
    last = content.splitlines(keepends=True)[-1]
    path.write_bytes(content + last.replace(old, new))
    ledger = Ledger(path, Key)
    assert ledger.entries == TRIALS
    assert len(ledger.frame({trial.key for trial in TRIALS})) == 3


def test_a_trial_with_two_results_is_refused_with_the_file_its_line_and_the_trial(path: Path) -> None:
    content = filled(path)
    last = content.splitlines(keepends=True)[-1]
    message = refusal(path, content + last.replace(b"86400.0", b"86400").replace(b"0.97", b"0.98"))
    assert message.startswith(f"{path}, line 5: says other metrics of Key(")
    assert "read_time_s=86400.0" in message

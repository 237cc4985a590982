"""Measurements from files: tolerant of order, names and separators, strict about everything that would mislead."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from devices import Measurements, fit_card, read_measurements

PLAIN = "voltage,read,device\n1.0,2.0,a\n1.5,2.5,b\n"


def written(folder: Path, text: str, name: str = "lab.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff# from the lab\n\nDevice;READ [µS];Voltage (V)\na;2.0;1.0\n\n# a pause\nb;2.5;1.5\n",
        "value\tdrive\tdevice\n2\t1\tx\n2.5\t1.5\ty\n",
        'Read value,write voltage,"device"\r\n2e0,1.0,0\r\n2.5,1.5,1\r\n',
    ],
)
def test_columns_come_in_any_order_spelling_and_separator(tmp_path: Path, text: str) -> None:
    found = read_measurements(written(tmp_path, text))
    assert (found.written.tolist(), found.read.tolist(), found.is_target) == ([1.0, 1.5], [2.0, 2.5], False)
    assert found.device is not None
    assert found.device.tolist() == [0, 1]
    assert found.time_s is None
    assert found.source == "lab.csv"


def test_times_and_all_labels_are_read(tmp_path: Path) -> None:
    text = "target,read,time (s),device,cell,cycle\n1,2,20,a,7,0\n1,2.1,40,a,7,0\n"
    found = read_measurements(written(tmp_path, text))
    assert found.is_target
    assert found.time_s is not None
    assert found.time_s.tolist() == [20.0, 40.0]
    assert all(label is not None and label.tolist() == [0, 0] for label in (found.device, found.cell, found.cycle))


REFUSED = [
    ("voltage,device\n1,a\n", "column 'read' is missing; there are voltage, device: name the read values 'read'"),
    ("read,device\n1,a\n", "needs one of the columns 'target' and 'voltage', not neither"),
    ("target,voltage,read\n1,1,1\n", "needs one of the columns 'target' and 'voltage', not both"),
    ("voltage,read,colour\n1,1,red\n", "unknown column 'colour': rename it to one of target or voltage, read"),
    ("voltage,read,value\n1,1,1\n", "two columns mean 'read', the second is 'value'"),
    ("voltage,read,time (h)\n1,1,1\n", r"column 'time \(h\)' needs seconds, not 'h'"),
    ("voltage,read\n1,2\n1,nan\n", "line 3: read needs a finite number, not 'nan': correct or drop that line"),
    ("voltage,read\n1,inf\n", "line 2: read needs a finite number, not 'inf'"),
    ("voltage,read\n1,open\n", "line 2: read needs a finite number, not 'open'"),
    ("voltage,read\n# note\n1,\n", "line 3: read is missing: fill it in or drop that line"),
    ("voltage,read\n1,2,3\n", "line 2: has 3 values for 2 columns"),
    ("voltage,read,time_s\n1,2,0\n", "time_s counts from programming and must be above 0 s, not 0"),
    ("voltage,read\n", "needs a line of column names and rows below it"),
    ("", "needs a line of column names and rows below it"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_a_file_that_would_mislead_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*lab\.csv[^\n]*{line}[^\n]*$"):
        read_measurements(written(tmp_path, text))


@pytest.mark.parametrize("name", ["none.csv", "none.h5"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^cannot read measurements '[^\n]*{name}'[^\n]*$"):
        read_measurements(tmp_path / name)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read measurements .*bad\.h5"):
        read_measurements(written(tmp_path, "no HDF5", "bad.h5"))
    with pytest.raises(ValueError, match=r"lab\.xlsx: measurements are read from \.csv"):
        read_measurements(written(tmp_path, PLAIN, "lab.xlsx"))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00voltage")
    with pytest.raises(ValueError, match=r"cannot read measurements .*bytes\.csv"):
        read_measurements(tmp_path / "bytes.csv")


def test_hdf5_and_csv_make_the_same_card(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    volts, device = np.tile([1.0, 2.0, 3.0], 40), np.repeat([b"left", b"right"], 60)
    read = 3.0 * volts + generator.normal(0.0, 0.1, 120)
    with h5py.File(tmp_path / "lab.h5", "w") as file:
        file["voltage"], file["read"], file["device"] = volts, read, device
    rows = zip(volts.tolist(), read.tolist(), device, strict=True)
    text = written(tmp_path, "voltage,read,device\n" + "".join(f"{v!r},{r!r},{d.decode()}\n" for v, r, d in rows))
    cards = [fit_card(read_measurements(path), name="same").card for path in (tmp_path / "lab.h5", text)]
    # all but the file's name, which is the source
    assert cards[0].text.replace("lab.h5", "lab.csv") == cards[1].text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"read": np.zeros((3, 2))}, "dataset of read needs one dimension of numbers"),
        ({"read": np.array([b"1", b"2", b"3"])}, "dataset of read needs one dimension of numbers"),
        ({"read": np.zeros(4)}, r"columns need one length, not .*'read': 4"),
        ({"read": np.array([1.0, np.nan, 2.0])}, "read needs finite numbers, not nan in row 2"),
        ({"colour": np.zeros(3)}, "unknown column 'colour'"),
    ],
)
def test_a_bad_hdf5_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, np.ndarray], line: str) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for name, values in {"voltage": np.ones(3), "read": np.ones(3), **changes}.items():
            file[name] = values
    with pytest.raises(ValueError, match=rf"^[^\n]*bad\.h5[^\n]*{line}[^\n]*$"):
        read_measurements(tmp_path / "bad.h5")


def test_logarithms_are_taken_of_reads_and_targets() -> None:
    drives = Measurements([1.0, 2.0], [100.0, 1000.0], is_target=False).in_log10()
    assert (drives.written.tolist(), drives.read.tolist()) == ([1.0, 2.0], [2.0, 3.0])
    assert Measurements([10.0, 100.0], [1.0, 1.0], is_target=True).in_log10().written.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"the logarithm needs every read above 0, not -1"):
        Measurements([1.0, 2.0], [-1.0, 1.0], is_target=False).in_log10()


def test_measurements_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Measurements([1.0], [1.0], is_target=False).read[0] = 2.0

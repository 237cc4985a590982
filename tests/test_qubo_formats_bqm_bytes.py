"""Damaged binary models: refused in one line before dimod's reader, which would crash, sees them."""

import json
import struct

import dimod
import numpy as np
import pytest

import qubo
from qubo import files
from qubo.formats.bqm_bytes import MAGIC, checked


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small λ form as dimod writes it."""
    with qubo.to_bqm(qubo.generate("D", groups=4, codes=3), 0.1).to_file() as file:
        return file.read()


def parts(content: bytes) -> tuple[dict, int]:
    """The header, and where the numbers begin."""
    (length,) = struct.unpack_from("<I", content, 10)
    return json.loads(content[14 : 14 + length]), 14 + length


def with_header(content: bytes, **changes: object) -> bytes:
    """The same numbers under a changed header."""
    header, at = parts(content)
    text = json.dumps(header | changes).encode()
    return content[:10] + struct.pack("<I", len(text)) + text + content[at:]


def with_number(content: bytes, at: int, kind: str, value: int) -> bytes:
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "model",
    [
        ({0: 1.0, 1: -2.0}, {(0, 1): 0.5}),
        ({"x": 1.0, "y": 0.0, "z": 3.0}, {("x", "z"): -1.0}),
        ({}, {}),
        ({0: 2.0}, {}),
    ],
)
def test_what_dimod_writes_passes_as_it_is(version: int, dtype: type, model: tuple) -> None:
    bqm = dimod.BinaryQuadraticModel(*model, 0.25, "SPIN", dtype=dtype)
    with bqm.to_file(version=version) as file:
        written = file.read()
    assert checked(written) is written
    assert dimod.BinaryQuadraticModel.from_file(checked(written)) == bqm


def test_a_neighbour_beyond_the_variables_is_refused(content: bytes) -> None:
    header, at = parts(content)
    linear = at + 8 + 12 * (np.dtype(header["ntype"]).itemsize + 8)
    kind = {4: "<i", 8: "<q"}[np.dtype(header["itype"]).itemsize]
    for value in (12, 2**31 - 1, -1, 0):  # 0 is the first variable itself
        with pytest.raises(ValueError, match="a neighbour is no other variable, or out of order: write it again"):
            checked(with_number(content, linear, kind, value))


def test_neighbourhoods_that_do_not_follow_one_another_are_refused(content: bytes) -> None:
    header, at = parts(content)
    kind = {4: "<i", 8: "<q"}[np.dtype(header["ntype"]).itemsize]
    step = np.dtype(header["ntype"]).itemsize + 8
    for variable, value in ((0, 1), (3, 2**30), (5, -1)):
        with pytest.raises(ValueError, match="its neighbourhoods do not follow one another: write it again"):
            checked(with_number(content, at + 8 + variable * step, kind, value))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shape": [12, 10**9]}, "it is cut off: "),
        ({"shape": [10**12, 0]}, "it is cut off: "),
        ({"shape": [-1, 0]}, "it is cut off: "),
        ({"shape": [0, 3]}, "its neighbourhoods do not follow one another"),
        ({"shape": [12]}, "not enough values to unpack"),
        ({"dtype": "object"}, "its numbers are object, int32 and int"),
        ({"itype": "float64"}, "its numbers are float64, float64 and"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_in_one_line(content: bytes, changes: dict, line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        checked(with_header(content, **changes))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_file_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="it does not begin with DIMODBQM, so it is no binary model of dimod's"):
        checked(b"DIMODCQM" + bytes(100))
    assert MAGIC == b"DIMODBQM"


@pytest.mark.parametrize("suffix", [".bqm", ".cqm"])
def test_a_file_with_any_bytes_changed_is_read_or_refused_in_one_line(tmp_path, suffix: str) -> None:
    problem = qubo.generate("D", groups=4, codes=3)
    files.save(problem, tmp_path / f"p{suffix}", multiplier=0.1 if suffix == ".bqm" else None)
    whole, rng = (tmp_path / f"p{suffix}").read_bytes(), np.random.default_rng(0)
    path, refused = tmp_path / f"changed{suffix}", 0
    for _ in range(250):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            (files.load_bqm if suffix == ".bqm" else files.load_selection)(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert 20 < refused <= 250


@pytest.mark.parametrize(
    "member",
    [
        "[1]", "null", "3", '"a"', "{}", "[" * 10**5, '{"codes": Infinity}', '{"codes": "x"}', '{"codes": -3}',
        '{"codes": 3, "budget": null, "own": []}', '{"codes": 3, "budget": 1, "own": {"a": 1}}',
        '{"codes": 3, "budget": 9, "own": [[null]]}', '{"codes": 3, "budget": 9, "own": [], "version": 9}',
        '{"codes": 3, "budget": 9, "own": [], "version": "2"}', '{"codes": 3, "budget": 9, "own": [], "setup": 5}',
    ],
)  # fmt: skip
def test_a_cqm_whose_own_member_is_nonsense_is_refused_in_one_line(tmp_path, member: str) -> None:
    import zipfile

    files.save(qubo.generate("D", groups=4, codes=3), tmp_path / "p.cqm")
    with zipfile.ZipFile(tmp_path / "p.cqm") as source, zipfile.ZipFile(tmp_path / "q.cqm", "w") as target:
        for name in source.namelist():
            target.writestr(name, member if name == files.MEMBER else source.read(name))
    with pytest.raises(ValueError, match=r"q\.cqm: ") as caught:
        files.load_selection(tmp_path / "q.cqm")
    assert "\n" not in str(caught.value)

"""What the README says is so: its program prints what stands below it, and its drawing shows what the code computes."""

import ast
import contextlib
import io
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import devices
import physcomp
from physcomp.codes import Medium, parse
from physcomp.codes.base import Encoded, to_bfloat16
from simulations.comparison.plans import StoredStudy
from simulations.kinds import KINDS, load_study

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def block(name: str) -> str:
    """The fenced text after a mark such as `<!-- program -->`."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1]


def test_the_program_uses_names_that_are_there() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(block("program")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "physcomp"
    }
    assert len(used) >= 6
    assert used <= set(physcomp.__all__)


@pytest.mark.slow
def test_the_program_prints_what_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    code = compile(block("program"), "README.md", "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    said, shown = printed.getvalue().splitlines(), block("output").splitlines()
    assert [NUMBER.sub("#", line) for line in said] == [NUMBER.sub("#", line) for line in shown]
    numbers = [[float(n.replace(",", "")) for line in lines for n in NUMBER.findall(line)] for lines in (said, shown)]
    # Another processor sums in another order, and another plan may be best: 10 % of the energy, 1 point of accuracy.
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=1e-3)
    assert numbers[0][-2:] == pytest.approx(numbers[1][-2:], abs=1.0)


def test_the_drawing_shows_what_the_code_computes(data_dir: Path) -> None:
    drawn = dict(
        re.findall(r">(?:\s*)([a-z|/ :0-9]+?)\s+([+-]?\d\.\d{3})<", (data_dir / "way-of-a-weight.svg").read_text())
    )
    network = physcomp.load_network(data_dir / "fashion-cnn.toml")
    row = physcomp.layers_of(network.module)[1].rows[5:6]
    place = int(np.argsort(-np.abs(row[0]))[40])
    scale = to_bfloat16(np.abs(row).max(axis=1))
    card, day = devices.load_card("pcm-nandakumar"), 86400.0
    medium, code = Medium(card, day), parse("analog(1)")
    written = code.encode(row, scale, medium)
    cells = devices.program(card, written.levels.reshape(-1), seed=3)
    back = code.decode(Encoded(written.bits, cells.read(time_s=day).reshape(1, -1)), scale, row.shape[1], medium)
    digital = parse("digital(3.91)")
    computed = {
        "scale": scale[0],
        "|w|/scale": abs(row[0, place]) / scale[0],
        "level": written.levels[0, place],
        "meant": written.levels[0, place],
        "programmed": cells.programmed[place],
        "read: 1 h": cells.read(time_s=3600.0)[place],
        "read: 1 day": cells.read(time_s=day)[place],
        "trained": row[0, place],
        "read back": back[0, place],
        "in 4 bits": digital.decode(digital.encode(row, scale, medium), scale, row.shape[1], medium)[0, place],
    }
    assert drawn.keys() == computed.keys()
    for name, value in computed.items():
        assert float(drawn[name]) == pytest.approx(float(value), abs=6e-4), name


@pytest.mark.parametrize("quick", [False, True])
def test_the_study_of_the_page_on_simulations_is_one(quick: bool, tmp_path: Path) -> None:
    page = (ROOT / "simulations" / "README.md").read_text()
    text, of_others = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert set(tomllib.loads(of_others)) <= set(StoredStudy.model_fields)
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('"data/', f'"{ROOT}/data/'))
    study = load_study(path, quick=quick)
    assert study.kind == "storage"
    assert study.network == str(ROOT / "data" / "fashion-cnn.toml")
    assert study.trials == (2 if quick else 5)


def test_the_page_on_simulations_names_every_kind_and_its_file() -> None:
    page = (ROOT / "simulations" / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*`(studies/\w+\.toml)` \|$", page, re.MULTILINE))
    assert set(rows) == set(KINDS)
    for kind, name in rows.items():
        assert load_study(ROOT / "simulations" / name).kind == kind

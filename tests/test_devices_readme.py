"""The pages of the room: their examples run and print what they show, and they name what there is."""

import doctest
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import devices
from devices import Card, Drive, Level, Source, Stuck, Temperature, Times, card_names, check_card, response
from devices.cards.card import FORMAT, MOST_BITS, NEEDED, OPTIONAL
from devices.cards.curves import KINDS
from devices.fitting.fit import LEAST_LEVELS, LEAST_WRITES
from devices.fitting.measurements import ALIASES

ROOM = Path(devices.__file__).parent
PAGE, CARDS = (ROOM / "README.md").read_text("utf-8"), (ROOM / "cards" / "README.md").read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def test_the_examples_print_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(PAGE, "python"))
    assert text.count(">>>") > 15
    runner, differences = doctest.DocTestRunner(verbose=False), list[str]()
    runner.run(doctest.DocTestParser().get_doctest(text, {}, "devices/README.md", None, 0), out=differences.append)
    assert not differences, "".join(differences)


def test_every_folder_and_file_of_the_room_is_on_the_page() -> None:
    found = {f"{path.name}/" if path.is_dir() else path.name for path in ROOM.iterdir()}
    found -= {"__init__.py", "__init__.pyi", "__pycache__/", "py.typed", "README.md"}
    assert {f"`{name}`" for name in found} <= set(re.findall(r"`[^`]*`", PAGE))


def test_every_card_is_counted() -> None:
    assert "the eighteen built-in cards" in PAGE
    assert len(card_names()) == 18


def test_names_on_the_page_are_names_of_the_package() -> None:
    table = PAGE[PAGE.index("## Classes") : PAGE.index("## Example")]
    names = {name for name in re.findall(r"`([A-Za-z_]+)(?:\(.*?\))?`", table) if name != "Cells.read"}
    assert len(names) > 15
    for name in names - {"t0_s", "time_s"}:
        assert hasattr(devices, name), name


def test_the_columns_of_a_table_are_those_that_are_read() -> None:
    table = PAGE[PAGE.index("| column |") : PAGE.index("A unit may follow")]
    stated = {name.replace(" ", "_") for name in re.findall(r"`([a-z_ ]+)`", table)}
    assert stated == set(ALIASES)
    assert (LEAST_LEVELS, LEAST_WRITES, devices.FitOptions().least_writes) == (3, 30, 5)


@pytest.mark.parametrize("record", [Level, Times, Source, Drive, Temperature, Stuck])
def test_the_format_names_every_field_of_a_table(record: type) -> None:
    for field in fields(record):
        assert f"`{field.name}`" in CARDS, field.name


def test_the_format_names_every_table_every_law_and_every_kind_of_curve() -> None:
    for name in (*NEEDED, *OPTIONAL):
        assert f"`{name}`" in CARDS or f"[{name}]" in CARDS, name
    for name in (*KINDS, "log-time", "power-time", "at-times", "t_read_s", "apart_s", "q", "sd", "shift", "amplitude"):
        assert f"`{name}`" in CARDS, name
    for kind, shape in KINDS.items():
        row = next(line for line in CARDS.splitlines() if line.startswith(f"| `{kind}` |"))
        for field in inspect.signature(shape).parameters:
            assert f"`{field}`" in row, f"{kind}: {field}"
    assert f"**format {FORMAT}**" in CARDS
    assert f"up to {MOST_BITS}," in CARDS


def test_the_example_of_a_card_is_a_sound_one() -> None:
    (text,) = blocks(CARDS, "toml")
    card = Card.from_text(text)
    assert check_card(card, seed=1).problems == ()
    # as the page says: 0.9 µS at 20 µS
    assert 40.0 * float(response(card, 0.0).variance(0.5)) ** 0.5 == pytest.approx(0.9, rel=1e-4)


def test_links_of_the_pages_lead_somewhere() -> None:
    for page, folder in ((PAGE, ROOM), (CARDS, ROOM / "cards")):
        for link in re.findall(r"\]\(([^)#:\s]+)\)", page):
            assert (folder / link).exists(), link

"""Figures of cards: the same bytes for the same input, printed sizes, and parts of the noise that add up."""

import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import card_names, figures, load_card, response
from devices.cards.card import Card
from devices.figures.style import COLOURS, apart, duration, looks
from devices.figures.times import changes, holds, split_by_time, times_of

DAY = 86400.0
PCM = ["pcm-zarcone", "pcm-nandakumar"]
DRAWN: dict[str, tuple[Callable[..., list[Path]], dict[str, object], float]] = {
    "level-response": (figures.level_response, {"cells": 500}, 183.0),
    "noise-atlas": (figures.noise_atlas, {}, 183.0),
    "drift-fan": (figures.drift_fan, {"cells": 200}, 89.0),
    "capacity-levels": (figures.capacity_against_levels, {}, 183.0),
    "capacity-time": (figures.capacity_against_time, {}, 183.0),
}


def words(path: Path) -> str:
    """All text of a figure: matplotlib writes it as comments beside the outlines of an SVG."""
    return path.with_suffix(".svg").read_text("utf-8")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("capacity") else ()) for name in DRAWN]
)
def test_a_figure_is_three_whole_files_of_a_printed_width_and_the_same_bytes_again(name: str, tmp_path: Path) -> None:
    draw, options, width_mm = DRAWN[name]
    before = dict(mpl.rcParams)
    cards = PCM if width_mm > 100.0 else PCM[1:]
    first = draw(cards, tmp_path / "first", **options)
    again = draw(cards, tmp_path / "deep" / "again", **options)
    assert dict(mpl.rcParams) == before
    assert [path.name for path in first] == [f"{name}.{ending}" for ending in ("png", "svg", "pdf")]
    assert sorted(tmp_path.glob("first/*")) == sorted(first)  # nothing temporary is left
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pixels, _ = struct.unpack(">II", first[0].read_bytes()[16:24])
    assert pixels == pytest.approx(width_mm / 25.4 * 300, abs=1)
    assert first[2].read_bytes().startswith(b"%PDF")


def test_one_card_fits_a_single_column_and_shows_its_unit(tmp_path: Path) -> None:
    path = figures.level_response(["pcm-nandakumar"], tmp_path, time_s=DAY, cells=500)[0]
    pixels, _ = struct.unpack(">II", path.read_bytes()[16:24])
    assert pixels == pytest.approx(89 / 25.4 * 300, abs=1)
    for text in ("pcm-nandakumar, 1 day", "conductance (µS)", "programming", "drift, relaxation", "read noise"):
        assert f"<!-- {text} -->" in words(path)


def test_the_atlas_names_every_noisy_card_and_no_other(tmp_path: Path) -> None:
    text = words(figures.noise_atlas(None, tmp_path)[0])
    for name in card_names():
        first_s = load_card(name).first_s
        label = f"{name}, {duration(first_s)}" if first_s else name
        assert (f"<!-- {label} -->" in text) == (name != "ideal"), name


def test_the_atlas_says_which_cards_do_not_hold_at_its_time(tmp_path: Path) -> None:
    text = words(figures.noise_atlas(PCM, tmp_path, time_s=DAY)[0])
    assert "not known at 1 day: pcm-zarcone:one-device" in text
    assert "<!-- pcm-nandakumar -->" in text


@pytest.mark.parametrize("name", card_names())
def test_parts_of_the_noise_add_up_to_the_closed_form(name: str) -> None:
    """8,000 cells: an sd is good to 0.8 %, and so are the parts; 3.5 % are four of these errors."""
    card = load_card(name)
    levels = np.array(card.written_levels or (0.05, 0.3, 0.7, 1.0))
    for time_s in (times_of(card, 2)[0], times_of(card, 2)[-1]):
        parts, seen = figures.noise_parts(card, levels, time_s, cells=8000, seed=3), response(card, time_s)
        np.testing.assert_allclose(parts.total, np.sqrt(seen.variance(levels)), rtol=0.035, atol=1e-9)
        np.testing.assert_allclose(parts.mean, seen.mean(levels), atol=5 * float(parts.total.max()) / 89 + 1e-7)
        together = parts.programming**2 + parts.drift**2 + parts.read**2
        np.testing.assert_allclose(together, parts.total**2, rtol=1e-9, atol=1e-15)


def test_parts_of_nandakumar_are_its_published_formulas() -> None:
    """Programming of the fit (0.0179, 0.0381, 0.0422 of g_max at 0.1, 0.5, 1), 1/f noise q √ln, no drift at t0."""
    x = np.array([0.1, 0.5, 1.0])
    start = figures.noise_parts("pcm-nandakumar", x, 0.0, seed=5)
    np.testing.assert_allclose(start.programming, [0.0179, 0.0381, 0.0422], rtol=0.03)
    np.testing.assert_allclose(start.read, x * [0.0393, 0.0138, 0.0088] * np.array(4.184), rtol=0.03)
    assert not start.drift.any()
    day = figures.noise_parts("pcm-nandakumar", x, DAY, seed=5)
    kept = response("pcm-nandakumar", DAY).mean(x)
    spread = np.array([0.0229, 0.008, 0.008]) * math.log((DAY + 20.0) / 20.0)  # of ln g, by the sd of the exponents
    np.testing.assert_allclose(day.drift, kept * spread, rtol=0.05)


def test_reads_that_only_correlate_are_programming_and_read_noise() -> None:
    """Zarcone: 0.46 of the variance is common to all reads of a cell within a sweep."""
    parts = figures.noise_parts("pcm-zarcone:aligned", [0.5], 0.0)
    share = float(parts.programming[0] ** 2 / parts.total[0] ** 2)
    assert share == pytest.approx(load_card("pcm-zarcone").rereads, abs=0.02)
    assert not parts.drift.any()


@pytest.mark.parametrize("name", card_names())
def test_times_of_a_card_are_times_it_holds_at(name: str) -> None:
    card = load_card(name)
    times = times_of(card, 9)
    assert all(holds(card, time_s) for time_s in times)
    assert all(a < b for a, b in pairwise(times))
    assert (times[0], times[-1]) == (card.first_s, min(card.max_s, 31_536_000.0))


def test_only_cards_that_drift_or_relax_change() -> None:
    found = {name for name in card_names() if changes(load_card(name))}
    assert {"pcm-nandakumar", "rram-neurram"} <= found
    assert not {"ideal", "pcm-zarcone:aligned", "rram-milo"} & found


@given(st.lists(st.floats(-50, 50), max_size=12), st.floats(0.1, 5))
def test_labels_are_apart_in_their_order_and_stay_where_they_fit(wanted: list[float], gap: float) -> None:
    placed = apart(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert all(b - a >= gap * (1 - 1e-9) for a, b in pairwise(placed[order].tolist()))
    if all(b - a >= gap for a, b in pairwise(sorted(wanted))):
        np.testing.assert_allclose(placed, wanted, atol=1e-9)
    assert float(np.sum(placed)) == pytest.approx(sum(wanted), abs=1e-6)  # pooled labels move both ways alike


def test_no_two_cards_look_alike() -> None:
    names = [*card_names(), *(f"lab-{number}" for number in range(3 * len(COLOURS)))]
    found = [(look.colour, str(look.dashes)) for look in looks(names).values()]
    assert len(set(found[: len(card_names())])) == len(card_names())


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (1.0, 7200.0, 2 * DAY, 63_072_000.0)] == ["1 s", "2 h", "2 days", "2 years"]


def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^level response: from 1 to 6 cards a figure, not 7[^\n]*$"):
        figures.level_response(["pcm-zarcone"] * 7, tmp_path)
    with pytest.raises(ValueError, match=r"^card 'rram-milo' holds at 0 s alone[^\n]*$"):
        figures.drift_fan(["rram-milo"], tmp_path)
    with pytest.raises(ValueError, match=r"^card 'pcm-zarcone:one-device' holds from [^\n]*$"):
        figures.noise_atlas(["pcm-zarcone"], tmp_path, time_s=DAY)
    with pytest.raises(ValueError, match=r"^noise atlas: none of ideal has noise[^\n]*$"):
        figures.noise_atlas(["ideal"], tmp_path)
    with pytest.raises(ValueError, match=r"^card 'pcm-nandakumar' says no activation energy[^\n]*$"):
        figures.capacity_against_time(["pcm-nandakumar"], tmp_path, temperatures_k=[300.0])
    assert not list(tmp_path.iterdir())


def test_cards_are_split_by_whether_they_hold() -> None:
    cards: list[Card] = [load_card(name) for name in PCM]
    drawn, left = split_by_time(cards, 3600.0)
    assert ([card.name for card, _ in drawn], [card.name for card in left]) == (
        ["pcm-nandakumar"],
        ["pcm-zarcone:one-device"],
    )

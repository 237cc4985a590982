"""What figures show, read back from their axes: lines, bands and labels against the numbers they stand for."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from devices import Capacity, Card, capacity, capacity_study, load_card, program, response
from devices.figures import (
    capacity_against_levels,
    capacity_against_time,
    drift_fan,
    level_response,
    noise_atlas,
    noise_parts,
)
from devices.figures.style import BLUE, LABELS_FROM, below, label_lines, looks, new_figure, panels
from devices.figures.times import YEAR_S, holds, times_of

DAY = 86400.0
Drawing = Callable[..., Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Drawing:
    """Draws a figure as the function does and gives it back instead of writing it."""
    found: list[Figure] = []

    def keep(figure: Figure, folder: Path | str, name: str) -> list[Path]:
        figure.draw_without_rendering()
        found.append(figure)
        return []

    for module in ("atlas", "capacity", "drift", "response"):
        monkeypatch.setattr(f"devices.figures.{module}.save", keep)

    def draw(function: Callable[..., list[Path]], *arguments: Any, **options: Any) -> Figure:
        function(*arguments, tmp_path, **options)
        return found.pop()

    return draw


def data(axis: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axis.lines]


def words(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def heights(axis: Axes) -> list[tuple[float, float]]:
    """Lower and upper edge of each label beside the axis, in pixels, from below."""
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without their leaders
    return sorted((box.y0, box.y1) for box in boxes)


def heights_of(axis: Axes, values: list[float]) -> list[float]:
    """Where values lie, in pixels from below."""
    return [float(axis.transData.transform((0.0, value))[1]) for value in values]


def test_the_atlas_shows_the_sd_of_a_read_in_percent_of_the_range_read(drawn: Drawing) -> None:
    names = ["pcm-nandakumar", "pcm-zarcone:one-device", "rram-multilevel:4-levels"]
    (axis,) = drawn(lambda folder: noise_atlas(names, folder)).axes
    lines = data(axis)
    assert len(lines) == 3
    for name, (x, y) in zip(names, lines, strict=True):
        seen = response(name, 0.0)
        sd = np.sqrt(seen.variance(x))
        np.testing.assert_allclose(y, 100.0 * sd / (seen.high - seen.low), rtol=1e-12)
    x, y = lines[1]
    np.testing.assert_allclose(y[[0, -1]], [100 * 0.0068 / 0.713, 100 * 0.040 / 0.713], rtol=1e-3)  # Zarcone et al.
    assert lines[2][0].tolist() == list(load_card(names[2]).written_levels)
    assert axis.get_yscale() == "log"
    assert sorted(words(axis)) == sorted(names)
    ticks = [float(tick.get_text()) for tick in axis.get_yticklabels()]
    assert {round(tick / 10 ** math.floor(math.log10(tick))) for tick in ticks} <= {1, 2, 5}


def test_labels_beside_the_atlas_do_not_lie_on_each_other(drawn: Drawing) -> None:
    figure = drawn(lambda folder: noise_atlas(None, folder))
    (axis,) = figure.axes
    edges = heights(axis)
    assert len(edges) == len(data(axis))
    assert all(top <= bottom + 1.0 for (_, top), (bottom, _) in pairwise(edges))  # a pixel of slack
    assert all(text.get_position()[0] == LABELS_FROM for text in axis.texts)


def test_the_atlas_at_a_time_draws_only_who_holds_then(drawn: Drawing) -> None:
    (axis,) = drawn(lambda folder: noise_atlas(["pcm-nandakumar", "pcm-zarcone"], folder, time_s=DAY)).axes
    ((x, y),) = data(axis)
    seen = response("pcm-nandakumar", DAY)
    np.testing.assert_allclose(y, 100.0 * np.sqrt(seen.variance(x)) / (seen.high - seen.low), rtol=1e-12)
    assert "not known at 1 day: pcm-zarcone:one-device" in axis.get_xlabel().replace("\n", " ")
    assert axis.get_title(loc="left") == "Cells read 1 day after programming"


def test_the_response_shows_mean_and_bands_and_the_parts_of_the_noise(drawn: Drawing) -> None:
    figure = drawn(lambda folder: level_response(["pcm-nandakumar"], folder, time_s=DAY, cells=400, seed=5))
    upper, lower = figure.axes[:2]
    seen = response("pcm-nandakumar", DAY)
    (_, _), (x, mean) = data(upper)
    np.testing.assert_allclose(mean, seen.mean(x), rtol=1e-12)
    bands = [item for item in upper.collections if isinstance(item, FillBetweenPolyCollection)]
    for band, count in zip(bands, (2.0, 1.0), strict=True):
        corners = band.get_paths()[0].vertices
        at = corners[np.abs(corners[:, 0] - 0.5) < 1e-9, 1]
        sd = math.sqrt(float(seen.variance(0.5)))
        assert at.min() == pytest.approx(float(seen.mean(0.5)) - count * sd)
        assert at.max() == pytest.approx(float(seen.mean(0.5)) + count * sd)
    curves = {str(line.get_label()): np.asarray(line.get_ydata()) for line in lower.lines}
    parts = noise_parts("pcm-nandakumar", np.linspace(0.0, 1.0, 41), DAY, cells=400, seed=5)
    scale = 100.0 / (seen.high - seen.low)
    for label, part in (
        ("programming", parts.programming),
        ("drift, relaxation", parts.drift),
        ("read noise", parts.read),
    ):
        np.testing.assert_allclose(curves[label], scale * part, rtol=1e-9)
    np.testing.assert_allclose(curves["total sd, closed form"], scale * np.sqrt(seen.variance(np.linspace(0, 1, 401))))
    (second,) = upper.child_axes
    assert second.get_ylabel() == "conductance (µS)"
    assert heights_of(second, [0.0, 10.0, 25.0]) == pytest.approx(heights_of(upper, [0.0, 0.4, 1.0]))


def test_the_second_scale_of_a_falling_range_falls(drawn: Drawing) -> None:
    """pcm-zarcone is written in log10 of a resistance: level 0 is the larger one."""
    figure = drawn(lambda folder: level_response(["pcm-zarcone"], folder, cells=400))
    (second,) = figure.axes[0].child_axes
    level = load_card("pcm-zarcone").level
    assert heights_of(second, [level.at_0, level.at_1]) == pytest.approx(heights_of(figure.axes[0], [0.0, 1.0]))
    assert second.get_ylabel() == f"{level.quantity} ({level.unit})"


def test_finite_levels_are_bars_at_these_levels(drawn: Drawing) -> None:
    name = "rram-multilevel:4-levels"
    figure = drawn(lambda folder: level_response([name], folder, cells=400))
    upper, lower = figure.axes[:2]
    seen, x = response(name, 0.0), np.array(load_card(name).written_levels)
    bars = [segments.get_segments() for segments in upper.collections]
    assert [len(segments) for segments in bars] == [4, 4]
    for segments, count in zip(bars, (2.0, 1.0), strict=True):
        ends = np.array([segment[:, 1] for segment in segments])
        np.testing.assert_allclose(np.diff(ends, axis=1)[:, 0], 2.0 * count * np.sqrt(seen.variance(x)), rtol=1e-9)
    assert all(len(line.get_xdata()) == 4 for line in lower.lines)


def test_the_fan_shows_quantiles_of_simulated_cells_and_the_closed_form_mean(drawn: Drawing) -> None:
    figure = drawn(lambda folder: drift_fan(["pcm-nandakumar"], folder, levels=[0.2, 0.8], cells=300, seed=2))
    axis = figure.axes[0]
    times = np.array(times_of(load_card("pcm-nandakumar"), 60))
    chip = program("pcm-nandakumar", np.repeat(np.float32([0.2, 0.8]), 300), seed=2)
    reads = np.stack([chip.read(time_s=t).reshape(2, 300) for t in times.tolist()])
    lines = data(axis)
    for k, level in enumerate((0.2, 0.8)):
        (x, median), (_, mean) = lines[2 * k], lines[2 * k + 1]
        np.testing.assert_allclose(x, times + 20.0)
        np.testing.assert_allclose(median, np.median(reads[:, k], axis=1), rtol=1e-6)
        expected = [float(response("pcm-nandakumar", t).mean(level)) for t in times.tolist()]
        np.testing.assert_allclose(mean, expected, rtol=1e-12)
        wide = axis.collections[2 * k].get_paths()[0].vertices
        at_end = wide[np.abs(wide[:, 0] - x[-1]) < 1e-6, 1]
        np.testing.assert_allclose([at_end.min(), at_end.max()], np.quantile(reads[-1, k], [0.05, 0.95]), rtol=1e-6)
    assert words(axis) == ["x = 0.2", "x = 0.8"]
    assert axis.get_xlim() == pytest.approx((20.0, YEAR_S + 20.0))


def test_a_fan_of_finite_levels_takes_the_nearest_of_these(drawn: Drawing) -> None:
    """Cells of four levels that relax: 0.1 and 0.3 are both written to 0.25."""
    text = load_card("rram-radar").text.replace(
        "[programming.sd]", "[programming]\nlevels = [39.0, 85.5, 132.0, 225.0]\n[programming.sd]", 1
    )
    card = Card.from_text(text)
    figure = drawn(lambda folder: drift_fan([card], folder, levels=[0.1, 0.3, 1.0], cells=100))
    levels = sorted({min(card.written_levels, key=lambda own: abs(own - level)) for level in (0.1, 0.3, 1.0)})
    assert words(figure.axes[0]) == [f"x = {level:.2g}" for level in levels]


def test_bits_against_levels_are_those_of_the_study(drawn: Drawing) -> None:
    names = ["pcm-zarcone:one-device", "rram-multilevel:4-levels"]
    figure = drawn(lambda folder: capacity_against_levels(names, folder))
    bits, errors = figure.axes[:2]
    lines = data(bits)
    np.testing.assert_allclose(lines[0][1], np.log2(lines[0][0]))  # what levels without noise would hold
    for k, (name, most) in enumerate(zip(names, (32, 4), strict=True)):
        levels, hard = lines[1 + 2 * k]
        assert levels.max() == most
        for count, found, soft in zip(levels.tolist(), hard, lines[2 + 2 * k][1], strict=True):
            both = capacity_study(name, levels_written=[count], levels_read=[count, 4 * count])
            assert (found, soft) == (both[0].bits, both[1].bits)
            assert found <= soft + 2e-3
        shown = errors.lines[k]
        expected = [capacity_study(name, levels_written=[count])[0].symbol_error for count in levels.tolist()]
        for found, error in zip(np.asarray(shown.get_ydata()), expected, strict=True):
            assert math.isnan(found) if error < 1e-9 else found == error
        bound = bits.collections[k].get_segments()[0]
        assert bound[0, 1] == capacity(name, 0.0).analog_bits
    assert words(bits)[-2:] == [f"{capacity(name, 0.0).analog_bits:.2f}" for name in names]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == names


def test_bits_over_time_end_where_the_card_ends(drawn: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.figures.capacity.TIMES", 3)
    names = ["pcm-nandakumar", "pcm-zarcone:aligned"]
    (axis,) = drawn(lambda folder: capacity_against_time(names, folder)).axes
    lines = data(axis)
    for k, name in enumerate(names):
        card = load_card(name)
        times = np.array(times_of(card, 3))
        (x, hard), (_, analog) = lines[2 * k], lines[2 * k + 1]
        np.testing.assert_allclose(x, np.maximum(times + card.t0_s, 1.0))
        found = [capacity(card, t) for t in times.tolist()]
        np.testing.assert_allclose(hard, [one.reliable_bits for one in found], atol=1e-12)
        np.testing.assert_allclose(analog, [one.analog_bits for one in found], atol=1e-12)
        last, bits = lines[4 + k]  # the dotted line that leads on to the label
        assert (last[0], bits.tolist()) == (x[-1], [hard[-1]] * 2)
    assert (np.diff(lines[0][1]) < 0.0).all()  # drift costs bits
    assert not np.diff(lines[2][1]).any()
    assert words(axis) == names


def test_a_line_for_each_temperature_ages_by_arrhenius(drawn: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bits that fall by 1 a decade of the card's own time, whatever the card."""

    def bits(card: Card, time_s: float) -> Capacity:
        return Capacity(card.name, time_s, 9.0, (), 8.0 - math.log10(1.0 + time_s), 2)

    monkeypatch.setattr("devices.figures.capacity.capacity", bits)
    kelvin = [373.0, 338.0]
    (axis,) = drawn(lambda folder: capacity_against_time(["rram-radar"], folder, temperatures_k=kelvin)).axes
    card, lines = load_card("rram-radar"), data(axis)
    assert words(axis) == ["rram-radar, 373 K", "rram-radar, 338 K"]
    for k, temperature_k in enumerate(kelvin):
        x, hard = lines[2 * k]
        aged = [card.equivalent_time(0.0 if i == 0 else t, temperature_k) for i, t in enumerate(x.tolist())]
        assert all(holds(card, t) for t in aged)
        np.testing.assert_allclose(hard, [8.0 - math.log10(1.0 + t) for t in aged], rtol=1e-9)
    assert lines[0][0][-1] < lines[2][0][-1]  # the hot cells' time ends first
    assert axis.lines[0].get_color() != axis.lines[2].get_color()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2)])
def test_panels_are_lettered_three_beside_each_other(count: int, rows: int) -> None:
    figure, taken = panels(["pcm-zarcone"] * count, "a figure", row_mm=50.0, heights=(2.0, 1.0))
    assert len(taken) == count
    assert all(len(axes) == 2 for _, axes in taken)
    width, height = figure.get_size_inches() * 25.4
    assert (width, height) == pytest.approx((89.0 if count == 1 else 183.0, 14 + 50.0 * rows))
    letters = [text for _, axes in taken for text in words(axes[0])]
    assert letters == ([] if count == 1 else list("abcdef"[:count]))
    for count in (0, 7):
        with pytest.raises(ValueError, match=rf"^a figure: from 1 to 6 cards a figure, not {count}: draw them in part"):
            panels(["pcm-zarcone"] * count, "a figure", row_mm=50.0)


def test_lines_that_end_together_have_labels_above_each_other_in_their_order() -> None:
    figure = new_figure(89.0, 60.0)
    axis = figure.subplots()
    axis.set_ylim(0.0, 1.0)
    look = looks(["a"])["a"]._replace(colour=BLUE)
    figure.draw_without_rendering()
    label_lines(axis, [(0.5, "upper", look), (0.499, "lower", look), (0.9, "high", look), (1.0, "top", look)])
    place = {text.get_text(): text.get_position()[1] for text in axis.texts}
    gap = 7.5 / 72.0 * figure.dpi / axis.get_window_extent().height
    assert place["upper"] - place["lower"] == pytest.approx(gap)
    assert (place["upper"] + place["lower"]) / 2 == pytest.approx(0.4995)
    assert place["top"] <= 1.0  # beside the axis, not above it
    assert all(text.arrow_patch is not None for text in axis.texts)  # type: ignore[attr-defined]


def test_cards_left_out_are_named_in_lines_of_the_width_asked_for() -> None:
    cards: list[Card] = [load_card("pcm-zarcone"), load_card("rram-milo"), load_card("sonos:at-once")]
    lines = below("level written", cards, DAY, width=40).split("\n")
    assert lines[0] == "level written"
    assert " ".join(lines[1:]) == "not known at 1 day: pcm-zarcone:one-device, rram-milo, sonos:at-once"
    assert all(len(line) <= 40 for line in lines[1:])
    assert below("level written", [], DAY, width=40) == below("level written", cards, None, width=40) == "level written"


@pytest.mark.parametrize("time_s", [None, 0.0])
def test_a_figure_of_no_card_is_refused(time_s: float | None, tmp_path: Path) -> None:
    for draw in (noise_atlas, level_response, capacity_against_levels):
        with pytest.raises(ValueError, match=r"^a figure of cards needs at least one card, not 0: name a card$"):
            draw([], tmp_path, time_s=time_s)

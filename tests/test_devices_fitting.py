"""Fitting cards: round trips from known cards within the errors that the fit states, and what is noted."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import devices
from devices import Card, CardLabels, Fit, FitOptions, Measurements, fit_card, load_card, program

SIGMAS = 4.0  # of about 30 numbers a card, one falls further with probability 2e-3
OHM = CardLabels(quantity="log10 resistance", unit="log10 Ω", source="a lab book", doi="10.1000/1", licence="CC0")


def sweeps(card: Card, count: int, seed: int) -> Measurements:
    """Writes at the drives of a card, `count` each."""
    assert card.drive is not None
    volts = np.repeat(card.drive.values, count)
    levels = np.clip([card.level.from_physical(mean) for mean in np.repeat(card.drive.means, count)], 0.0, 1.0)
    read = program(card, levels, seed=seed).read(time_s=0.0).astype(np.float64)
    return Measurements(volts, card.level.at_0 + (card.level.at_1 - card.level.at_0) * read, is_target=False)


TARGETS_US = np.array([0.0, 0.5, 1.25, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0])
TIMES_S = 20.0 * np.array([1.0, 4.0, 20.0, 100.0, 500.0, 4000.0])


def reads_at(card: Card, times_s: NDArray[np.float64], count: int, seed: int) -> Measurements:
    """Reads of the same cells at several times after programming, `count` cells a target."""
    targets = np.repeat(TARGETS_US, count)
    cells = program(card, targets / 25.0, seed=seed)
    reads = [25.0 * cells.read(time_s=t - 20.0, read=k).astype(np.float64) for k, t in enumerate(times_s)]
    return Measurements(
        np.tile(targets, len(times_s)),
        np.concatenate(reads),
        is_target=True,
        time_s=np.repeat(times_s, len(targets)),
        cell=np.tile(np.arange(len(targets)), len(times_s)),
    )


@pytest.fixture(scope="module")
def independent() -> Card:
    """The Nandakumar card with independent reads: reads at times far apart share no 1/f noise."""
    return Card.from_text(load_card("pcm-nandakumar").text.replace("apart_s = 1.0\n", ""))


@pytest.fixture(scope="module")
def timed(independent: Card) -> Fit:
    options = FitOptions(clamp_at_0=True)
    return fit_card(reads_at(independent, TIMES_S, 200, seed=11), name="timed", options=options)


@pytest.fixture(scope="module")
def swept() -> Fit:
    return fit_card(sweeps(load_card("pcm-zarcone:one-device"), 120, seed=1), name="swept", labels=OHM)


def within(found: float, error: float, true: float) -> bool:
    assert error > 0.0
    return abs(found - true) <= SIGMAS * error


def test_a_sweep_gives_back_the_means_and_sds_of_the_card_it_was_simulated_from(swept: Fit) -> None:
    card = load_card("pcm-zarcone:one-device")
    assert card.drive is not None
    span = abs(card.level.at_1 - card.level.at_0)
    for level, volt, mean in zip(swept.report.levels, card.drive.values, card.drive.means, strict=True):
        assert level.written == volt
        assert within(level.mean, level.mean_error, mean)
        sd = span * float(card.programming_sd(np.array(card.level.from_physical(mean))))
        assert within(level.sd.value, level.sd.error, sd)
        assert level.sd.error == pytest.approx(level.sd.value / math.sqrt(2 * 119), rel=0.15)  # near-normal noise


def test_the_written_card_says_what_the_report_says(swept: Fit) -> None:
    card = swept.card
    assert card.drive is not None
    assert card.text == swept.text
    assert (card.t0_s, card.level.unit, card.sources[0].paper) == (0.0, "log10 Ω", "a lab book")
    assert (card.sources[0].doi, card.sources[0].licence) == ("10.1000/1", "CC0")
    for level in swept.report.levels:
        at = np.clip(card.level.from_physical(level.mean), 0.0, 1.0)
        assert float(card.programming_sd(np.array(at))) * abs(card.level.at_1 - card.level.at_0) == pytest.approx(
            level.sd.value, rel=1e-4
        )
        assert float(card.drive_for(at)) == pytest.approx(level.written, abs=1e-5)
        assert f"± {level.sd.error:.2g}" in swept.text
    assert "1440 writes" in swept.text.splitlines()[0]
    assert any("isotonic" in choice for choice in card.choices)


def test_a_fitted_card_programs_cells_with_the_fitted_sd(swept: Fit) -> None:
    levels = np.full(50_000, 0.5)
    read = program(swept.card, levels, seed=3).read(time_s=0.0)
    expected = float(swept.card.programming_sd(np.array(0.5)))
    assert read.std() == pytest.approx(expected, rel=SIGMAS / math.sqrt(2 * 50_000))


def test_reads_over_time_give_back_drift_read_noise_and_programming(timed: Fit, independent: Card) -> None:
    assert independent.drift is not None
    assert independent.read_noise is not None
    for level in timed.report.levels:
        x = np.array(level.written / 25.0)
        assert within(level.mean, level.mean_error, level.written)
        assert within(level.sd.value, level.sd.error, 25.0 * float(independent.programming_sd(x)))
        assert level.drift is not None
        assert within(level.drift.q, level.drift.q_error, float(independent.read_noise.q(x)))
        if level.written >= 1.25:  # below, one read is too noisy for an exponent a cell
            mean, sd = independent.drift.exponent_mean(x), independent.drift.exponent_sd(x)
            assert within(level.drift.exponent_mean, level.drift.exponent_mean_error, float(mean))
            assert within(level.drift.exponent_sd, level.drift.exponent_sd_error, float(sd))
        else:
            assert math.isnan(level.drift.exponent_mean)


def test_a_card_fitted_over_time_predicts_later_reads(timed: Fit, independent: Card) -> None:
    """Mean and sd of a read after a day's quarter: 1 % of the mean and 6 % of the sd (200 cells a level: 5 %)."""
    x = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
    true, found = devices.response(independent, 20_000.0), devices.response(timed.card, 20_000.0)
    np.testing.assert_allclose(found.mean(x), true.mean(x), rtol=0.015)
    np.testing.assert_allclose(np.sqrt(found.variance(x)), np.sqrt(true.variance(x)), rtol=0.15)
    assert timed.card.max_s == pytest.approx(79_980.0)
    assert timed.card.drive is None  # the means are the targets within their errors
    assert timed.card.level.clamp_at_0


def test_repeated_reads_at_one_time_show_the_noise_that_is_new_between_them() -> None:
    """The built-in card's reads lie 1 s apart: 83 % of the variance at 20 s is new, and q is of all of it."""
    card = load_card("pcm-nandakumar")
    assert card.read_noise is not None
    fit = fit_card(reads_at(card, np.full(6, 20.0), 150, seed=4), name="repeats", options=FitOptions(clamp_at_0=True))
    for level in fit.report.levels:
        assert level.drift is not None
        assert within(level.drift.q, level.drift.q_error, float(card.read_noise.q(np.array(level.written / 25.0))))
    assert fit.card.drift is None
    assert any("reads span less than 1.2 times" in note for note in fit.report.notes)


def test_repeats_without_times_need_t0_for_read_noise() -> None:
    reads = reads_at(load_card("pcm-nandakumar"), np.full(3, 20.0), 60, seed=5)
    plain = Measurements(reads.written, reads.read, is_target=True, cycle=reads.cell)
    without = fit_card(plain, name="without")
    assert without.card.read_noise is None
    assert any("repeated reads without times" in note for note in without.report.notes)
    assert fit_card(plain, name="with", options=FitOptions(t0_s=20.0, clamp_at_0=True)).card.read_noise is not None


def devices_of(between: float, inside: float, devices: int, cycles: int, seed: int) -> Measurements:
    """Five voltages on several devices, each with an offset of its own, many cycles each."""
    generator = np.random.default_rng(seed)
    volts = np.tile(np.linspace(1.0, 2.0, 5), devices * cycles)
    device = np.repeat(np.arange(devices), 5 * cycles)
    offset = generator.normal(0.0, between, (devices, 5))[device, np.tile(np.arange(5), devices * cycles)]
    read = 10.0 * volts + offset + generator.normal(0.0, inside, len(volts))
    return Measurements(volts, read, is_target=False, device=device)


def test_device_to_device_is_told_from_cycle_to_cycle_within_the_stated_errors() -> None:
    fit = fit_card(devices_of(0.4, 0.3, 40, 20, seed=6), name="apart")
    for level in fit.report.levels:
        assert level.devices == 40
        assert level.device_sd is not None
        assert within(level.device_sd.value, level.device_sd.error, 0.4)
        assert within(level.cycle_sd.value, level.cycle_sd.error, 0.3)
        assert within(level.sd.value, level.sd.error, 0.5)
        assert level.sd.value**2 == pytest.approx(level.device_sd.value**2 + level.cycle_sd.value**2)
    assert fit.report.device_share == pytest.approx(0.64, abs=0.1)
    # two cards in one: a device drawn at random, and one whose own response is known
    assert fit.card.name == "apart:any-device"
    one, any_device = Card.from_text(fit.text, "one-device"), Card.from_text(fit.text, "any-device")
    middle = np.array(0.5)
    assert float(one.programming_sd(middle) / any_device.programming_sd(middle)) == pytest.approx(0.6, abs=0.06)


def test_devices_that_are_alike_make_a_card_without_variants() -> None:
    generator = np.random.default_rng(12)
    volts, device = np.tile([1.0, 2.0, 3.0], 40), np.repeat(np.arange(2), 60)
    read = volts + generator.normal(0.0, 0.1, 120)
    for i in range(3):  # equal device means, exactly
        for d in range(2):
            own = (volts == i + 1.0) & (device == d)
            read[own] += i + 1.0 - read[own].mean()
    fit = fit_card(Measurements(volts, read, is_target=False, device=device), name="alike")
    assert any("devices cannot be told apart (p 1)" in note for note in fit.report.notes)
    assert fit.card.variant == ""
    assert fit.report.device_share == 0.0


def test_a_response_that_turns_is_cut_to_its_monotone_range_with_a_note() -> None:
    generator = np.random.default_rng(7)
    volts = np.repeat(np.arange(0.0, 1.01, 0.1), 40)
    read = 1.0 - (volts - 0.7) ** 2 + generator.normal(0.0, 0.01, len(volts))
    measured = Measurements(volts, read, is_target=False, source="turns.csv")
    fit = fit_card(measured, name="turns")
    assert fit.report.usable == (0.0, 0.7)
    assert fit.card.drive is not None
    assert (fit.card.drive.values[0], fit.card.drive.values[-1]) == (0.0, 0.7)
    assert any("monotone from 0 to 0.7 V only, 8 levels: the card is cut to it" in note for note in fit.report.notes)
    with pytest.raises(ValueError, match=r"^turns\.csv: the mean response is monotone from 0 to 0\.7 V only[^\n]*$"):
        fit_card(measured, name="turns", options=FitOptions(monotone_range=False))


def test_a_falling_response_has_level_0_at_the_lowest_drive() -> None:
    generator = np.random.default_rng(8)
    volts = np.repeat([1.0, 2.0, 3.0, 4.0], 30)
    fit = fit_card(Measurements(volts, 9.0 - volts + generator.normal(0, 0.05, 120), is_target=False), name="falls")
    assert fit.card.level.at_0 == pytest.approx(8.0, abs=0.05)
    assert fit.card.level.at_1 == pytest.approx(5.0, abs=0.05)
    assert float(fit.card.drive_for(1.0)) == 4.0


def test_targets_that_are_missed_become_a_drive() -> None:
    generator = np.random.default_rng(9)
    targets = np.repeat([0.0, 5.0, 10.0, 15.0, 20.0], 60)
    read = 1.0 + 0.8 * targets + generator.normal(0.0, 0.3, 300)
    fit = fit_card(Measurements(targets, read, is_target=True), name="missed")
    assert fit.card.drive is not None
    assert (fit.card.drive.quantity, fit.card.drive.unit) == ("target conductance", "µS")
    assert fit.card.level.at_0 == pytest.approx(1.0, abs=4 * 0.3 / math.sqrt(60))
    # a mean of 9 µS is asked for as 10
    assert float(fit.card.drive_for(fit.card.level.from_physical(9.0))) == pytest.approx(10.0, abs=0.2)


def test_level_0_beyond_the_data_extends_the_response_by_a_straight_line() -> None:
    generator = np.random.default_rng(10)
    volts = np.repeat([1.0, 2.0, 3.0, 4.0], 50)
    measured = Measurements(volts, 5.0 * volts + generator.normal(0.0, 0.1, 200), is_target=False)
    fit = fit_card(measured, name="zero", options=FitOptions(at_0=0.0))
    assert fit.card.drive is not None
    assert fit.card.level.at_0 == 0.0
    assert fit.card.drive.values[0] == pytest.approx(0.0, abs=0.03)
    assert any("straight line on to level 0 at 0" in note for note in fit.report.notes)


def test_isotonic_lines_pass_through_the_means_alone(swept: Fit) -> None:
    lines = fit_card(swept.measurements, name="lines", options=FitOptions(curve="isotonic"))
    assert lines.card.drive is not None
    assert swept.card.drive is not None
    assert len(lines.card.drive.values) == 12
    assert set(lines.card.drive.values) < set(swept.card.drive.values)


def test_two_reads_a_cell_tell_neither_drift_nor_read_noise() -> None:
    """Their difference is both at once; taking it for read noise would be wrong."""
    generator = np.random.default_rng(14)
    targets = np.repeat([5.0, 10.0, 20.0], 40)
    read = np.concatenate([targets, targets * 100.0**-0.05]) + generator.normal(0.0, 0.1, 240)
    measured = Measurements(
        np.tile(targets, 2), read, True, np.repeat([1.0, 100.0], 120), cell=np.tile(np.arange(120), 2)
    )
    fit = fit_card(measured, name="two")
    assert (fit.card.drift, fit.card.read_noise, fit.card.max_s) == (None, None, 0.0)
    assert any("drift and read noise not fitted" in note for note in fit.report.notes)


def test_growing_reads_are_said_and_get_no_drift() -> None:
    generator = np.random.default_rng(13)
    targets, times = np.repeat([5.0, 10.0, 20.0], 40), np.array([1.0, 10.0, 100.0, 1000.0])
    reads = [targets * t**0.02 * (1 + generator.normal(0, 0.002, 120)) for t in times]
    measured = Measurements(
        np.tile(targets, 4), np.concatenate(reads), True, time_s=np.repeat(times, 120), cell=np.tile(np.arange(120), 4)
    )
    fit = fit_card(measured, name="grows")
    assert any("3 levels grow with time instead of decaying" in note for note in fit.report.notes)
    assert fit.card.drift is None or not fit.card.drift.exponent_mean(np.array([0.5])).any()


def test_the_report_reads_in_single_lines(swept: Fit, timed: Fit) -> None:
    lines = swept.report.lines()
    assert lines[0] == "1440 reads, 1440 writes, 12 levels of 120 to 120 writes"
    assert lines[1] == "usable monotone range: 0.7 to 1.25"
    assert "passes through every mean" in lines[2]
    assert "since mean and sd were estimated" in lines[3]
    assert all("\n" not in line for line in [*lines, *timed.report.lines()])
    assert "reduced χ²" in timed.report.lines()[2]
    assert timed.report.mean_dof == 10
    assert timed.report.reduced_chi_square is not None
    assert 0.2 < timed.report.reduced_chi_square < 2.6  # χ² of 10: probability 1e-3 each side


def spoiled(**changes: object) -> Measurements:
    """A good measurement with changes."""
    volts = np.repeat([1.0, 2.0, 3.0, 4.0], 10)
    good = {"written": volts, "read": volts + 0.01 * np.arange(40), "is_target": False, "source": "bad.csv"}
    return Measurements(**{**good, **changes})  # type: ignore[arg-type]


REFUSED = [
    ({"written": np.repeat([1.0, 2.0, 3.0, 4.0], [10, 10, 17, 3])}, {}, "1 of 4 levels have fewer than 5 .*4 V with 3"),
    ({"written": np.repeat([1.0, 2.0], 20), "read": np.arange(40.0)}, {}, "2 levels with 40 writes in all are too few"),
    ({"written": np.repeat([1.0, 2.0, 3.0], 6), "read": np.arange(18.0)}, {}, "3 levels with 18 writes in all are too"),
    ({"read": np.repeat([1.0, 2.0, 3.0, 4.0], 10)}, {}, "no level has any spread"),
    ({"read": np.tile([1.0, 1.1], 20)}, {}, "can be told apart|monotone from"),
    ({"read": np.repeat([1.0, 5.0, 1.0, 5.0], 10) + 0.01 * np.tile(np.arange(10), 4)}, {}, "monotone from 1 to 2 V"),
    ({"read": np.tile(np.arange(10.0), 4) + 0.1 * np.repeat([0, 1, 2, 3], 10)}, {}, "mean only moves from 4.5 to 4.8"),
    ({"time_s": np.repeat([1.0, 2.0], 20)}, {}, "reads at several times need a column device, cell or cycle"),
    ({"time_s": np.ones(40)}, {"t0_s": 3.0}, "t0_s is for data without times"),
    ({"time_s": np.full(40, 1e-9), "cell": np.arange(40)}, {}, "t_read_s = 2.5e-07 s must not exceed the first read"),
    ({}, {"at_0": 2.5}, "level 0 at 2.5 lies amid the means"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "options", "line"), REFUSED)
def test_what_cannot_be_fitted_is_refused_in_one_line(
    changes: dict[str, object], options: dict[str, float], line: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*({line})[^\n]*$"):
        fit_card(spoiled(**changes), name="bad", options=FitOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"curve": "cubic"}, "curve must be smooth or isotonic, not 'cubic'"),
        ({"t_read_s": 0.0}, "t_read_s must be a number of seconds above 0, not 0"),
        ({"max_s": math.nan}, "max_s must be a number of seconds above 0, not nan"),
        ({"least_writes": 2}, "least_writes must be 3 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        FitOptions(**options)  # type: ignore[arg-type]


def test_a_name_that_no_card_may_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"card needs name = .* without a colon"):
        fit_card(spoiled(), name="my:card")


def test_quotes_and_line_breaks_in_labels_stay_texts() -> None:
    labels = CardLabels(title='a "quoted" \\ title', source="two\nlines = 1\n[x]")
    fit = fit_card(spoiled(), name="odd", labels=labels)
    assert fit.card.title == 'a "quoted" \\ title'
    assert fit.card.sources[0].paper == "two lines = 1 [x]"


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_the_figure_is_written_whole(swept: Fit, tmp_path: Path, ending: str) -> None:
    from devices.fitting.figure import draw_fit

    path = draw_fit(swept, tmp_path / f"fit.{ending}")
    assert [item.name for item in tmp_path.iterdir()] == [f"fit.{ending}"]
    assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_the_figure_of_a_timed_fit_has_six_panels(timed: Fit, tmp_path: Path) -> None:
    from devices.fitting.figure import draw_fit

    text = draw_fit(timed, tmp_path / "fit.svg").read_text("utf-8")
    assert text.count('<g id="axes_') == 6
    with pytest.raises(ValueError, match=r"figure '.*fit\.jpg' needs a name that ends in \.png, \.svg or \.pdf"):
        draw_fit(timed, tmp_path / "fit.jpg")

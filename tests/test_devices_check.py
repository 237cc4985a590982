"""Checking cards: the built-in ones are sound, broken ones are told what is wrong."""

import pytest

from devices import Card, card_names, check_card, load_card
from devices.check import check_times


@pytest.mark.parametrize("name", card_names())
def test_every_built_in_card_is_sound(name: str) -> None:
    found = check_card(name)
    assert found.problems == ()
    assert [row.time_s for row in found.moments] == list(check_times(load_card(name)))
    assert all(row.mean_errors < 5.0 and row.variance_errors < 5.0 for row in found.moments)


def test_times_to_check_are_those_the_card_holds_at() -> None:
    assert check_times(load_card("rram-neurram")) == (1.0, 86400.0, 172800.0)
    assert check_times(load_card("pcm-zarcone"))[::2] == (0.0, 60.0)
    assert check_times(load_card("ideal"))[-1] == 1e9


def changed(name: str, old: str, new: str) -> Card:
    text = load_card(name).text
    assert text.count(old) == 1
    return Card.from_text(text.replace(old, new))


def test_a_mean_that_falls_late_is_a_problem() -> None:
    text = load_card("pcm-nandakumar").text
    line = next(row for row in text.splitlines() if row.startswith("exponent_mean"))
    steep = 'exponent_mean = { kind = "polynomial", unit = "1", coefficients = [0.0, 0.5] }'
    problems = check_card(Card.from_text(text.replace(line, steep))).problems
    assert any("the mean read level must rise with the target" in problem for problem in problems)


def test_a_curve_with_a_jump_is_a_problem() -> None:
    line = 'sd = { kind = "polynomial", unit = "µS", over = "µS", coefficients = [4.782321, -0.009107] }'
    jump = 'sd = { kind = "nearest", unit = "µS", at = [50.0, 225.0], values = [1.0, 9.0] }'
    card = changed("rram-milo", line, jump)
    assert any("programming.sd changes by" in problem for problem in check_card(card).problems)


def test_noise_wider_than_half_the_range_is_a_problem() -> None:
    card = changed("rram-milo", "[4.782321, -0.009107]", "[100.0]")
    assert any("of the whole range" in problem for problem in check_card(card).problems)


def test_simulated_moments_that_miss_the_closed_form_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of another card stand for a simulation that went wrong."""
    from devices import check

    other = changed("rram-milo", "[4.782321, -0.009107]", "[5.282321, -0.009107]")
    monkeypatch.setattr(check, "program", lambda card, x, seed: programmed(other, x, seed=seed))
    problems = check_card("rram-milo").problems
    assert any("standard errors off the closed form" in problem for problem in problems)


def programmed(card: Card, x: object, *, seed: int) -> object:
    from devices import program

    return program(card, x, seed=seed)  # type: ignore[arg-type]


def test_notes_say_what_a_card_does_not() -> None:
    notes = check_card("rram-multilevel:2-levels").notes
    assert "source 1 gives no DOI" in notes
    assert any("activation energy" in note for note in notes)
    assert not any("activation energy" in note for note in check_card("rram-radar").notes)
    assert any("nothing changes with time" in note for note in check_card("pcm-zarcone").notes)

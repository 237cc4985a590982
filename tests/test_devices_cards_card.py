"""Cards: published numbers against their sources, and what a bad card is told."""

import math
from pathlib import Path

import numpy as np
import pytest

import devices
from devices import Card, card_names, load_card
from devices.cards.card import NEEDED, OPTIONAL
from devices.cards.curves import KINDS, interpolate, tabulate


def edited(old: str, new: str, name: str = "pcm-nandakumar") -> str:
    """A built-in card's text with one replacement."""
    text = load_card(name).text
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize("name", card_names())
def test_tables_follow_the_curves_within_a_percent_of_their_maximum(name: str) -> None:
    """A kink inside an interval costs slope · width / 4 at most: 0.0035 of the maximum for Q, less elsewhere; a jump
    costs itself: 0.008 of the maximum where the published branches of pcm-hermes meet. Steps of finite levels are
    read at the levels alone."""
    card = load_card(name)
    curves = [] if card.written_levels else [card.programming_sd]
    curves += [card.drift.exponent_mean, card.drift.exponent_sd] if card.drift else []
    curves += [card.read_noise.q, card.read_noise.sd] if card.read_noise else []
    x = np.linspace(0.0, 1.0, 40_001) ** 3
    for curve in curves:
        error = np.abs(interpolate(tabulate(curve), x) - curve(x))
        assert error.max() <= 0.01 * curve(x).max()
        assert error.mean() <= 2e-5 * max(curve(x).max(), 1e-30)


def test_card_names_spell_out_variants_and_all_load() -> None:
    assert card_names() == sorted(card_names())
    assert {"ideal", "pcm-nandakumar", "pcm-zarcone:aligned", "pcm-hermes:two-devices"} < set(card_names())
    assert [load_card(name).name for name in card_names()] == card_names()


def test_a_name_without_variant_takes_the_default() -> None:
    assert load_card("pcm-zarcone") == load_card("pcm-zarcone:one-device")
    assert load_card("pcm-zarcone") != load_card("pcm-zarcone:aligned")


def test_a_card_is_rebuilt_from_its_text() -> None:
    for name in card_names():
        card = load_card(name)
        again = Card.from_text(card.text, card.variant)
        assert again == card
        assert again.sha256 == card.sha256
        assert again.name == card.name


def test_sha256_depends_on_content_and_neither_on_comments_nor_on_the_file(tmp_path: Path) -> None:
    card = load_card("pcm-nandakumar")
    file = tmp_path / "other-name.toml"
    file.write_text("# a comment\n" + card.text, "utf-8")
    assert load_card(file).sha256 == card.sha256
    file.write_text(edited("0.26348", "0.26349"), "utf-8")
    assert load_card(str(file)).sha256 != card.sha256


def test_a_variant_of_a_file_follows_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(load_card("pcm-zarcone").text, "utf-8")
    assert load_card(f"{file}:aligned") == load_card("pcm-zarcone:aligned")


def test_every_card_says_its_sources_and_its_choices() -> None:
    for name in card_names():
        card = load_card(name)
        assert card.sources
        assert card.choices
        assert all(source.doi == "none" or source.doi.startswith("10.") for source in card.sources)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("pcm-zarcon", r"no card 'pcm-zarcon': near names are .*pcm-zarcone"),
        ("pcm-zarcone:alined", r"no card 'pcm-zarcone:alined': near names are pcm-zarcone:aligned"),
        ("ideal:x", r"no card 'ideal:x': near names are ideal"),
        ("flash", r"no card 'flash': near names are ideal, pcm-hermes, .*\.toml file"),
        ("nowhere/my.toml", r"cannot read card file 'nowhere/my.toml': .* give the path of a card in TOML"),
    ],
)
def test_an_unknown_card_is_refused_in_one_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        load_card(name)


BAD_CARDS = [
    ("not TOML", "t0_s = 20.0", "t0_s = = 20.0", "card is not TOML"),
    ("missing field", "t0_s = 20.0", "", "time needs the fields t0_s, max_s: missing t0_s"),
    ("unknown field", "t0_s = 20.0", "t0_s = 20.0\nt1_s = 3.0", "unknown t1_s"),
    ("unknown section", "[drift]", "[wear]\nrate = 1.0\n[drift]", "unknown wear"),
    ("wrong unit", 'l", unit = "µS"', 'l", unit = "mS"', "programming.sd needs unit = one of 1, µS, not 'mS'"),
    ("no unit", 'kind = "polynomial", unit = "µS"', 'kind = "polynomial"', "not None"),
    ("unknown curve", '"clipped-power"', '"power"', "read_noise.q needs kind = one of constant, polynomial"),
    ("code for a curve", '"clipped-power"', '"__import__(\'os\')"', "read_noise.q needs kind = one of"),
    ("missing parameter", "slope = -0.0155, ", "", "drift.exponent_mean needs the fields .* wrong or missing: slope"),
    ("NaN", "[0.26348,", "[nan,", "programming.sd needs a finite number, not nan"),
    ("text for a number", "[0.26348,", '["0.26348",', "programming.sd needs a finite number, not '0.26348'"),
    ("negative sd", "[0.26348,", "[-0.26348,", "programming.sd needs finite values of 0 or more at every .* not -0.01"),
    ("overflowing sd", "[0.26348,", "[1e300,", "programming.sd needs finite values"),
    ("bounds swapped", "low = 0.008", "low = 0.8", "drift.exponent_sd needs low below high"),
    ("empty range", "at_1 = 25.0", "at_1 = 0.0", "level needs at_0 and at_1 to differ"),
    ("text for true", "clamp_at_0 = true", 'clamp_at_0 = "yes"', "level.clamp_at_0 needs true or false"),
    ("negative time", "max_s = 31536000.0", "max_s = -1.0", "time needs t0_s and max_s of 0 s or more"),
    ("drift from 0 s", "t0_s = 20.0", "t0_s = 0.0", "drift needs time.t0_s above 0 s"),
    ("slow read", "250e-9", "30.0", "read_noise.t_read_s needs to lie above 0 s and within time.t0_s = 20"),
    ("other format", "format = 1", "format = 2", "needs format = 1, the one this version reads, not 2"),
    ("colon in name", '"pcm-nandakumar"', '"pcm:nandakumar"', "card needs name"),
    ("no source", "choices = [", "sources = []\nchoices = [", "card is not TOML"),
    ("numbers for choices", "choices = [", "choices = [1,", "choices needs a text, not 1"),
    ("no bits", "format = 1", "format = 1\nreliable_bits = 0", "reliable_bits needs more than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line"), [case[1:] for case in BAD_CARDS], ids=[c[0] for c in BAD_CARDS])
def test_a_bad_card_is_refused_in_one_line(old: str, new: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{line}[^\n]*$"):
        Card.from_text(edited(old, new))


BAD_PARTS = [
    ("sonos", "unit = \"nA\", over = \"nA\", height = 12.58037", "unit = \"nA\", over = \"A\", height = 12.58037",
     "read_noise.sd needs over = 1 or nA, not 'A'"),
    ("sonos", "height = 12.58037, scale = 215.36557", "height = 12.58037, scale = 0", "needs scale above 0"),
    ("sonos", "height = 12.58037,", "height = [1.0],", r"read_noise.sd needs height = a number, not \[1.0\]"),
    ("sonos", "time_s = 172800.0", "time_s = 86400.0", "relaxation.at needs times that rise from 0 s to time.max_s"),
    ("rram-neurram", "[0.701,", "[0.201,", "relaxation.at 1.sd needs to be nowhere below programming.sd"),
    ("rram-neurram", "only_s = [1.0,", "only_s = [2e6,", "time.only_s needs times that rise"),
    ("rram-neurram", '"at-times"', '"at-dawn"', "relaxation needs kind = one of log-time, power-time, at-times"),
    ("rram-cmo", "t0_s = 1.0", "t0_s = 0.5", "relaxation of kind log-time needs time.t0_s of 1 s or more"),
    ("rram-cmo", "apart_s = 1.0", "apart_s = 1e-6", "read_noise.apart_s needs 1/f noise and at least 2 t_read_s"),
    ("rram-radar", "min_k = 338.0", "min_k = 360.0", "temperature needs activation_ev above 0 and min_k, reference_k"),
    ("rram-radar", "power = 0.8413", "power = 0.0", "relaxation.power needs more than 0, not 0.0"),
    ("rram-radar", "format = 1", "format = 1\nstuck = {low = 0.7, high = 0.5}", "stuck .* together at most 1"),
    ("rram-multilevel", "levels = [0.0, 0.38464387,", "levels = [0.1, 0.38464387,", "programming.levels needs two or"),
    ("pcm-zarcone", "correlation = 0.46", "correlation = 1.0", "rereads.correlation needs a number from 0 to below 1"),
    ("pcm-zarcone", "clamp_at_0 = false", "clamp_at_0 = true", "rereads needs a card without clamp_at_0"),
    ("pcm-hermes", "below = { kind = \"clipped-log\", slope = -0.0387,",
     "below = { kind = \"points\", slope = -0.0387,",
     "drift.exponent_mean needs the fields at, values"),
    ("pcm-hermes", "apart_s = 1.0", "apart_s = 1.0\n[variants.two-devices.wear]\nx = 1", "unknown wear"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "line"), BAD_PARTS)
def test_a_bad_part_of_a_card_is_refused_in_one_line(name: str, old: str, new: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^card '{name}[^\n]*{line}[^\n]*$"):
        Card.from_text(edited(old, new, name))


DEFAULT = 'default_variant = "one-device"'
BAD_VARIANTS = [
    (DEFAULT, "", "needs default_variant = one of its variants, not ''"),
    (DEFAULT, 'default_variant = "two"', "needs default_variant = one of its variants, not 'two'"),
    (DEFAULT, "default_variant = [1]", r"needs default_variant = one of its variants, not \[1\]"),
    ("[drive]", "[variants]\nx = 1\n[drive]", r"needs variants as tables \[variants.NAME\], not"),
    ("means = [5.731, 5.694", "means = [5.731, 5.794", "drive needs means that only rise or only fall"),
    ("means = [5.731, 5.694", "means = [5.700, 5.694", "drive.means need to end at 5.731 and 5.018"),
    ("values = [0.70, 0.75", "values = [0.75, 0.70", "drive needs values that rise strictly"),
    ("values = [0.70, ", "values = [", "drive needs as many values as means, two or more, not 11, 12"),
    ("values = [0.0068, ", "values = [", "programming.sd needs two or more 'at' and as many 'values', not 12 and 11"),
]


@pytest.mark.parametrize(("old", "new", "line"), BAD_VARIANTS)
def test_a_bad_card_with_variants_is_refused_in_one_line(old: str, new: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^card 'pcm-zarcone[^\n]*{line}[^\n]*$"):
        Card.from_text(edited(old, new, "pcm-zarcone"))


def test_an_unknown_variant_of_a_text_is_refused() -> None:
    line = r"^card 'pcm-zarcone': no variant 'x': take one-device or aligned or partial-reset$"
    with pytest.raises(ValueError, match=line):
        Card.from_text(load_card("pcm-zarcone").text, "x")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(edited("t0_s = 20.0", ""), "utf-8")
    with pytest.raises(ValueError, match=r"bad\.toml: card 'pcm-nandakumar': time needs the fields"):
        load_card(file)


@pytest.mark.parametrize(
    ("name", "time_s", "line"),
    [
        ("pcm-zarcone", 61.0, "card 'pcm-zarcone:one-device' holds from time_s = 0 to 60 s"),
        ("pcm-nandakumar", 4e7, r"holds from time_s = 0 to 3\.1536e\+07 s"),
        ("pcm-nandakumar", -1.0, r"not at -1\.0: read within that range"),
        ("ideal", math.nan, "not at nan"),
        ("rram-neurram", 0.0, "holds only at time_s = 1, 86400, 172800 s after programming, .* not at 0"),
        ("rram-neurram", 90000.0, "holds only at time_s = 1, 86400, 172800 s"),
        ("rram-milo", 1.0, "holds only at time_s = 0 s"),
        ("pcm-joshi", 3600.0, "holds only at time_s = 0 s"),
        ("sonos:five-days", 432001.0, "holds from time_s = 0 to 432000 s"),
        ("sonos:at-once", 60.0, "holds only at time_s = 0 s"),
    ],
)
def test_a_time_outside_the_range_is_refused(name: str, time_s: float, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{line}[^\n]*$"):
        load_card(name).check_time(time_s)


def test_a_time_in_words_is_refused() -> None:
    with pytest.raises(ValueError, match="not at '1 day'"):
        load_card("pcm-nandakumar").check_time("1 day")  # type: ignore[arg-type]


def test_a_level_has_a_voltage_only_where_the_card_says_so() -> None:
    card = load_card("pcm-zarcone")
    voltages = card.drive_for(np.linspace(0.0, 1.0, 101))
    assert (np.diff(voltages) > 0.0).all()
    assert (voltages[0], voltages[-1]) == (0.70, 1.25)
    with pytest.raises(ValueError, match="says no drive"):
        load_card("ideal").drive_for(0.5)
    with pytest.raises(ValueError, match=r"levels must lie in \[0, 1\]"):
        card.drive_for([0.5, 1.5])


def test_the_schema_names_every_table_and_every_kind_of_curve() -> None:
    readme = (Path(devices.__file__).parent / "cards" / "README.md").read_text("utf-8")
    for field in (*NEEDED, *OPTIONAL, *KINDS, "variants", "default_variant", "only_s", "levels", "over"):
        assert f"`{field}`" in readme or f"[{field}]" in readme or f"[{field}." in readme or f"`{field} " in readme


@pytest.mark.parametrize("name", card_names())
def test_every_card_says_its_licence_and_where_its_numbers_stand(name: str) -> None:
    card = load_card(name)
    for source in card.sources:
        assert source.licence
        assert source.figure
    assert any("re-read" in choice or "reads" in choice or name == "ideal" for choice in card.choices)

"""Study files: what a whole one says, and the one line that each flaw is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import physcomp
from physcomp.codes.menu import DEFAULT
from simulations.comparison.plans import StoredStudy
from simulations.kinds import KINDS, load_study
from simulations.runs.progress import Progress
from simulations.runs.study import STUDIES, StudyCard

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    """The one line that a study file is refused with."""
    with pytest.raises(ValueError, match=r".") as caught:
        load_study(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def read(path: Path) -> StoredStudy:
    study = load_study(path)
    assert isinstance(study, StoredStudy)
    return study


def opened(study: Any, folder: Path) -> Any:
    """The study with its network and images read, but not begun."""
    return KINDS[study.kind](study, folder, Progress())


def test_a_study_holds_what_its_file_says(tiny_folder: Path) -> None:
    study = read(tiny_folder / "study.toml")
    assert (study.name, study.trials, study.seed) == ("stripes", 3, 5)
    assert (study.calibration, study.heldout, study.test_images) == (64, 64, 200)
    assert study.budgets == (1.5, 3.0)
    assert study.cards == (StudyCard(card="pcm-zarcone"), StudyCard(card="pcm-nandakumar", read_time_s=3600))
    assert study.menu[0] == "pruned"
    assert study.uniform[-1] == "float32"
    assert study.text == (tiny_folder / "study.toml").read_text()


def test_what_a_study_leaves_out_has_its_default(write_study: Write) -> None:
    study = read(write_study(**{name: None for name in ("trials", "seed", "menu", "uniform", "shrinkages")}))
    assert (study.trials, study.seed, study.uniform) == (5, 0, ())
    assert study.menu == DEFAULT
    assert study.shrinkages == physcomp.Search.shrinkages
    assert study.solver == "annealer"


def test_paths_in_a_study_are_relative_to_its_file(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = read(tiny_folder / "study.toml")
    assert study.network == str(tiny_folder / "net.toml")
    assert study.images == tiny_folder / "images"
    (tmp_path / "below").mkdir()
    moved = tmp_path / "below" / "moved.toml"
    moved.write_text(study.text.replace('"net.toml"', '"../net.toml"'))
    assert read(moved).network == str(tmp_path / "net.toml")


def test_a_card_of_ones_own_is_found_relative_to_the_study(write_study: Write, tmp_path: Path) -> None:
    built_in = Path(__file__).parent.parent / "devices" / "cards" / "built_in" / "ideal.toml"
    (tmp_path / "mine.toml").write_text(built_in.read_text().replace('"ideal"', '"mine"'))
    assert len(read(write_study(cards='[{card = "mine.toml"}]')).cards) == 1


def test_the_fingerprint_of_a_study_changes_with_its_text(write_study: Write) -> None:
    first = load_study(write_study())
    assert load_study(write_study()).sha256 == first.sha256
    assert load_study(write_study(seed="6")).sha256 != first.sha256


def test_every_study_that_is_shipped_loads_and_finds_its_parts(tmp_path: Path) -> None:
    paths = sorted(STUDIES.glob("*.toml"))
    assert STUDIES / "demo.toml" in paths
    for path in paths:
        study: Any = load_study(path)
        if study.kind == "annealing":  # builds its loss model at once
            continue
        if study.kind == "networks":  # others need data that are not shipped
            assert {"CNN for Fashion-MNIST", "LeNet-5"} <= opened(study, tmp_path).opened.keys()
            continue
        assert len(opened(study, tmp_path).test) == study.test_images


def test_the_demonstration_has_the_budgets_and_methods_it_promises() -> None:
    study = read(STUDIES / "demo.toml")
    assert study.budgets == (0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
    analog = {f"analog({r}{plain})" for r in (1, 2, 3) for plain in ("", ",plain")}
    assert set(study.uniform) == analog | {f"digital({b})" for b in (2, 3, 4, 8)} | {"float32"}
    assert study.cards == (
        StudyCard(card="pcm-zarcone:one-device"),
        StudyCard(card="pcm-nandakumar", read_time_s=86400),
    )


def test_a_missing_study_is_told_which_studies_are_shipped(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none.toml")
    assert str(tmp_path / "none.toml") in message
    assert "demo.toml" in message


def test_a_study_that_is_not_toml_is_told_the_place(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('name = "a"\nbudgets = [1.0\ncards = 3\n')
    assert "not valid TOML" in refusal(path)
    assert "line 3" in refusal(path)


def test_a_study_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert str(path) in refusal(path)


@pytest.mark.parametrize("name", ["kind", "name", "network", "images", "budgets", "cards"])
def test_a_missing_field_is_named(write_study: Write, name: str) -> None:
    path = write_study(**{name: None})
    assert refusal(path).startswith(f"{path}: the study lacks {'data' if name == 'images' else name}; add ")


@pytest.mark.parametrize("value", ['"curing"', "3", '["storage"]'])
def test_an_unknown_kind_is_told_the_kinds_there_are(write_study: Write, value: str) -> None:
    told = "kind is one of storage, protection, footprint, networks, calibration"
    assert told in refusal(write_study(kind=value))


@pytest.mark.parametrize("name", ["budget", "text", "Seed", "strategies"])
def test_an_unknown_field_is_named_beside_those_there_are(write_study: Write, name: str) -> None:
    message = refusal(write_study(**{name: '"1"'}))
    assert f"unknown field {name}; remove it; there are kind, name, seed, network" in message


def test_of_several_flaws_the_first_field_is_told(write_study: Write) -> None:
    message = refusal(write_study(name="3", trials="0", colour="1"))
    assert message.endswith("name should be a text, got 3; correct it")


@pytest.mark.parametrize("name", ["calibration", "heldout", "test_images", "trials"])
@pytest.mark.parametrize("value", ["0", "-3", "2.5", '"many"', "[1]", "true"])
def test_counts_are_whole_numbers_of_at_least_one(write_study: Write, name: str, value: str) -> None:
    path = write_study(**{name: value})
    message = refusal(path)
    assert message.startswith(f"{path}: {name} should be ")
    assert any(rule in message for rule in ("a valid integer, got", "greater than or equal to 1, got"))
    assert message.endswith("; correct it")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[]", "budgets should have at least 1 item"),
        ("[1.0, 0.0]", "budgets[1] should be greater than 0, got 0.0; correct it"),
        ("[-0.5]", "budgets[0] should be greater than 0, got -0.5; correct it"),
        ("[nan]", "budgets[0] should be a finite number"),
        ("[inf]", "budgets[0] should be a finite number"),
    ],
)
def test_budgets_are_numbers_above_zero(write_study: Write, value: str, told: str) -> None:
    assert told in refusal(write_study(budgets=value))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[]", "shrinkages should have at least 1 item"),
        ("[0.5, 1.01]", "shrinkages[1] should be less than or equal to 1, got 1.01"),
        ("[-0.1]", "shrinkages[0] should be greater than or equal to 0, got -0.1"),
        ("[nan]", "shrinkages[0] should be"),
    ],
)
def test_shrinkages_lie_between_zero_and_one(write_study: Write, value: str, told: str) -> None:
    assert told in refusal(write_study(shrinkages=value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budgets", "1.0"),
        ("budgets", '["much"]'),
        ("shrinkages", '["some"]'),
        ("network", "3"),
        ("images", "[1]"),
        ("cards", '["pcm-zarcone"]'),
        ("cards", '[{name = "pcm-zarcone"}]'),
        ("cards", "[{read_time_s = 3.0}]"),
        ("cards", '[{card = "pcm-nandakumar", read_time_s = "late"}]'),
        ("cards", "[{card = 3}]"),
        ("menu", "[1, 2]"),
        ("uniform", "7"),
        ("name", "3"),
        ("solver", "3"),
        ("seed", '"one"'),
        ("seed", "1.5"),
        ("seed", "-1"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_when_the_study_is_read(write_study: Write, name: str, value: str) -> None:
    refusal(write_study(**{name: value}))


def test_an_empty_list_of_cards_is_refused(write_study: Write) -> None:
    assert "cards should have at least 1 item" in refusal(write_study(cards="[]"))


def test_an_unknown_card_is_told_the_near_names(write_study: Write) -> None:
    assert "pcm-nandakumar" in refusal(write_study(cards='[{card = "pcm-nandakuma"}]'))


def test_a_card_outside_its_time_range_is_refused(write_study: Write) -> None:
    message = refusal(write_study(cards='[{card = "pcm-zarcone", read_time_s = 86400}]'))
    assert "pcm-zarcone" in message
    assert "86400" in message


@pytest.mark.parametrize("name", ["menu", "uniform"])
@pytest.mark.parametrize("value", ['["pruned", "analogue(1)"]', '["pruned", "digital(-1)"]', '["pruned", "pruned"]'])
def test_a_code_that_is_none_or_stands_twice_is_refused(write_study: Write, name: str, value: str) -> None:
    refusal(write_study(**{name: value}))


def test_an_empty_menu_is_refused(write_study: Write) -> None:
    assert "at least one code" in refusal(write_study(menu="[]"))


def test_an_unknown_solver_is_refused_when_the_study_is_read(write_study: Write) -> None:
    assert "annealer" in refusal(write_study(solver='"anealer"'))


@pytest.mark.parametrize(
    "cards",
    [
        '[{card = "pcm-zarcone"}, {card = "pcm-zarcone"}]',
        '[{card = "pcm-zarcone"}, {card = "pcm-zarcone:one-device"}]',
        '[{card = "pcm-nandakumar", read_time_s = 60}, {card = "pcm-nandakumar", read_time_s = 60.0}]',
    ],
)
def test_the_same_card_at_the_same_time_twice_is_refused(write_study: Write, cards: str) -> None:
    """Its trials would be counted twice, and the sd come out too small."""
    refusal(write_study(cards=cards))


def test_the_same_budget_twice_is_refused(write_study: Write) -> None:
    refusal(write_study(budgets="[1.5, 1.5]"))


@pytest.mark.parametrize(
    ("name", "part"), [("calibration", "calibration"), ("heldout", "heldout"), ("test_images", "test")]
)
def test_too_few_images_are_refused_with_both_numbers(write_study: Write, tmp_path: Path, name: str, part: str) -> None:
    study = load_study(write_study(**{name: "201"}))
    with pytest.raises(ValueError, match=rf"{part} has \d+ samples, the study asks for 201"):
        opened(study, tmp_path)


def test_only_as_many_images_as_asked_for_are_taken(write_study: Write, tmp_path: Path) -> None:
    study = read(write_study(calibration="10", heldout="11", test_images="12"))
    kind = opened(study, tmp_path)
    assert [len(part) for part in (kind.calibration, kind.heldout, kind.test)] == [10, 11, 12]
    assert kind.calibration.inputs.equal(physcomp.load_images(study.images, "calibration").inputs[:10])


def test_a_missing_network_and_a_missing_folder_are_named(write_study: Write, tmp_path: Path) -> None:
    for name, missing in (("network", "none.toml"), ("images", "none")):
        study = load_study(write_study(**{name: f'"{missing}"'}))
        with pytest.raises(ValueError, match=str(tmp_path / missing)):
            opened(study, tmp_path)


def test_several_times_count_and_levels_are_written_for_the_last_unless_told_otherwise(write_study: Write) -> None:
    (target,) = read(write_study(cards='[{card = "pcm-nandakumar", read_times_s = [60, 3600]}]')).cards
    assert (target.read_time_s, target.read_times_s, target.over) == (3600.0, (60.0, 3600.0), "mean")
    assert target.measured_s == (60.0, 3600.0)
    card = '{card = "pcm-nandakumar", read_time_s = 100, read_times_s = [3600], over = "worst"}'
    (target,) = read(write_study(cards=f"[{card}]")).cards
    assert (target.read_time_s, target.read_times_s, target.over) == (100.0, (3600.0,), "worst")
    assert StudyCard(card="pcm-nandakumar", read_time_s=60.0).measured_s == (60.0,)


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ('card = "pcm-nandakumar", read_times_s = [60], over = "best"', "over should be 'mean' or 'worst', got 'best'"),
        ('card = "pcm-zarcone", read_times_s = [0, 86400]', "86400"),
        (
            'card = "pcm-nandakumar", read_times_s = 60',
            "cards[0].read_times_s should be an array, got 60",
        ),
        ('card = "pcm-nandakumar", read_times_s = ["late"]', "late"),
    ],
)
def test_flawed_times_of_a_card_are_refused(write_study: Write, card: str, told: str) -> None:
    assert told in refusal(write_study(cards=f"[{{{card}}}]"))


@pytest.mark.parametrize(
    "name",
    [
        "joint",
        "joint, no couplings",
        "joint + training",
        "joint (mine)",
        "uniform digital",
        "uniform",
        "",
        " ",
        "a\\nb",
    ],
)
def test_a_part_under_the_name_of_another_method_or_of_none_is_refused(write_study: Write, name: str) -> None:
    """Its trials would be counted among those of the other method."""
    assert "not of another method" in refusal(write_study(parts=f'{{"{name}" = "digital"}}'))
    assert read(write_study(parts='{"only digits, jointly" = "digital"}')).parts == {"only digits, jointly": "digital"}


def test_a_time_twice_is_refused_and_the_order_of_times_makes_no_other_card(write_study: Write) -> None:
    card = 'card = "pcm-nandakumar", read_time_s = 60'
    assert "holds the same twice" in refusal(write_study(cards=f"[{{{card}, read_times_s = [60, 60.0]}}]"))
    for first, second in (
        ("read_times_s = [60, 3600]", "read_times_s = [3600, 60]"),
        ('over = "mean"', 'over = "worst"'),  # nothing to take the mean of
    ):
        assert "the same card at the same times twice" in refusal(
            write_study(cards=f"[{{{card}, {first}}}, {{{card}, {second}}}]")
        )
    both = (
        f'[{{{card}, read_times_s = [60, 3600], over = "mean"}}, {{{card}, read_times_s = [60, 3600], over = "worst"}}]'
    )
    assert len(read(write_study(cards=both)).cards) == 2


@pytest.mark.parametrize(
    ("quick", "told"),
    [
        ("3", "quick should be a table [quick] of fields, got 3; correct it"),
        ("[]", "quick should be a table [quick] of fields, got []; correct it"),
        ("{colour = 1}", "with its [quick], the study has the unknown field colour; remove it"),
        ("{trials = 0}", "with its [quick], trials should be greater than or equal to 1, got 0; correct it"),
        ("{quick = {}}", "with its [quick], the study has the unknown field quick; remove it"),
    ],
)
def test_a_flawed_quick_variant_is_refused_before_anybody_asks_for_it(
    write_study: Write, quick: str, told: str
) -> None:
    path = write_study(quick=quick)
    assert refusal(path).startswith(f"{path}: {told}")


def test_only_the_quick_variant_has_its_values(write_study: Write) -> None:
    path = write_study(quick="{trials = 2}")
    assert [load_study(path, quick=quick).model_dump()["trials"] for quick in (False, True)] == [3, 2]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("menu", '["pruned", "pruned"]', "menu: needs at least one code"),
        ("cards", '["ideal"]', "cards[0] should be a table, got 'ideal'"),
        ("parts", "[]", "parts should be a table, got []"),
        ("uniform", "7", "uniform should be an array, got 7"),
        ("cards", "[]", "cards should have at least 1 item, not 0, got"),
    ],
)
def test_a_flaw_is_told_once_and_in_the_words_of_the_file(write_study: Write, name: str, value: str, told: str) -> None:
    path = write_study(**{name: value})
    assert refusal(path).startswith(f"{path}: {told}")

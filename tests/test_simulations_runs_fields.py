"""Fields of study files: values once, names that a folder can have, seeds within 64 bits, numbers in names of files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.kinds import load_study
from simulations.runs.fields import short

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    """The one line that a study file is refused with."""
    with pytest.raises(ValueError, match=r".") as caught:
        load_study(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "value"), [("metrics", '["agreement", "agreement"]'), ("shrinkages", "[0.5, 0, 0.0]")]
)
def test_a_metric_or_a_shrinkage_twice_is_refused(write_study: Write, name: str, value: str) -> None:
    assert f"{name}: holds the same twice" in refusal(write_study(**{name: value}))


@pytest.mark.parametrize(
    "name", ["", " ", "../else", "a/b", "a..b", "..", ".", "a\\u0007", "a\\nb", "a\\\\b", " a", "a ", "-a", "a" * 101]
)
def test_the_name_of_a_study_is_one_a_folder_can_have(write_study: Write, name: str) -> None:
    assert "name: a name of at most 100 letters" in refusal(write_study(name=f'"{name}"'))


@pytest.mark.parametrize("name", ["a", "a" * 100, "Größe 2.5 (first, quick)-b_c"])
def test_plain_names_of_studies_are_taken(write_study: Write, name: str) -> None:
    assert load_study(write_study(name=f'"{name}"')).name == name


def test_the_seeds_of_chips_stay_within_64_bits(write_study: Write) -> None:
    assert "seed should be less than" in refusal(write_study(seed=str(2**62)))
    assert load_study(write_study(seed=str(2**62 - 1))).seed == 2**62 - 1


def test_numbers_that_differ_have_names_that_differ() -> None:
    numbers = [
        0.3,
        0.5,
        1.0,
        1.00000001,
        0.1,
        0.1 + 1e-17,
        0.1 + 2e-17,
        86400.0,
        86400.1,
        86400.12,
        2592000.0,
        2592000.5,
    ]
    assert len({short(number) for number in numbers}) == len(set(numbers))
    assert all(float(short(number)) == number for number in numbers)
    assert [short(number) for number in (0.75, 1.0, 2.0, 86400.0)] == ["0.75", "1", "2", "86400"]

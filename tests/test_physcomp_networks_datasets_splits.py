"""Which rows the parts take."""

import itertools

import numpy as np
import pytest

from physcomp.networks.datasets.parts import Part, in_memory
from physcomp.networks.datasets.splits import Taken, choose_rows, order


def part(name: str, count: int = 100, classes: int = 7) -> Part:
    return in_memory(name, name, np.arange(count), np.arange(count) % classes)


def places(taken: Taken) -> list[tuple[str, int]]:
    return [(part.name, int(row)) for part, rows in taken for row in rows]


SOURCES = {
    "no parts": [part("all")],
    "train and test": [part("train"), part("test", 30)],
    "train and val": [part("train"), part("val", 30)],
    "all four": [part(name, 20) for name in ("train", "calibration", "val", "t10k")],
}


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("no parts", {"calibration": 50, "heldout": 25, "test": 25}),
        ("train and test", {"train": 60, "calibration": 20, "heldout": 20, "test": 30}),
        ("train and val", {"train": 80, "calibration": 20, "heldout": 30}),
        ("all four", {"train": 20, "calibration": 20, "heldout": 20, "test": 20}),
    ],
)
def test_parts_share_nothing_and_are_the_same_however_they_are_asked_for(source: str, sizes: dict[str, int]) -> None:
    together = choose_rows("a", SOURCES[source], list(sizes), seed=3)
    assert {name: len(places(taken)) for name, taken in together.items()} == sizes
    for one, other in itertools.combinations(together.values(), 2):
        assert not set(places(one)) & set(places(other))
    for name in set(sizes) - {"train"}:
        assert places(choose_rows("a", SOURCES[source], [name], seed=3)[name]) == places(together[name])
    again = choose_rows("a", SOURCES[source], list(sizes), seed=4)
    cut = sizes.keys() - {part.name for part in SOURCES[source]} - {"heldout", "test"} - {"train"}
    assert all(places(again[name]) != places(together[name]) for name in cut if source != "all four")


def test_train_alone_is_the_whole_of_it_in_its_order() -> None:
    taken = choose_rows("a", SOURCES["train and test"], ["train"])["train"]
    assert places(taken) == [("train", row) for row in range(100)]


def test_shares_cut_train_where_there_is_one_and_else_everything() -> None:
    shares = {"train": 0.5, "val": 0.25}
    taken = choose_rows("a", SOURCES["train and test"], ["train", "val", "test"], shares)
    assert {name: len(places(rows)) for name, rows in taken.items()} == {"train": 50, "val": 25, "test": 30}
    assert {name for name, _ in places(taken["val"])} == {"train"}
    parts = [part("calibration"), part("t10k")]
    taken = choose_rows("a", parts, ["calibration", "test"], {"calibration": 0.5, "test": 0.5})
    assert sorted(places(taken["calibration"]) + places(taken["test"])) == sorted(
        (name, row) for name in ("calibration", "t10k") for row in range(100)
    )


def test_all_is_everything_and_a_limit_goes_through_the_parts() -> None:
    taken = choose_rows("a", SOURCES["train and test"], ["all"], limit=110)["all"]
    assert places(taken) == [("train", row) for row in range(100)] + [("test", row) for row in range(10)]


def test_nothing_is_left_for_train() -> None:
    with pytest.raises(ValueError, match="nothing is left for train"):
        choose_rows("a", SOURCES["train and test"], ["train", "val"], {"calibration": 0.5, "val": 0.5})


@pytest.mark.parametrize("labels", [np.arange(50) // 10, np.arange(50)[::-1] // 10, np.linspace(0, 1, 50), None])
def test_sorted_and_unknown_labels_are_drawn(labels: np.ndarray | None) -> None:
    rows = order(Part("all", "a", 50, lambda rows: (rows, rows), labels), seed=1)
    assert rows.tolist() != list(range(50))
    assert sorted(rows.tolist()) == list(range(50))


@pytest.mark.parametrize("labels", [np.arange(50) % 3, np.zeros(50), np.arange(100).reshape(50, 2)])
def test_other_labels_keep_their_order(labels: np.ndarray) -> None:
    assert order(in_memory("all", "a", labels, labels), seed=1).tolist() == list(range(50))

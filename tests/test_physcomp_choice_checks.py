import re

import pytest

import physcomp
from physcomp.choice.joint import Search

MENU = ("pruned", "digital(2)", "digital(4)")


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="ideal", menu=MENU)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"card": None}, "card: the name of a card or a devices.Card, got None"),
        ({"menu": (3,)}, "menu: a tuple of names of codes, got (3,)"),
        ({"menu": "pruned"}, "menu: a tuple of names of codes, got 'pruned'"),
        ({"menu": None}, "menu: a tuple of names of codes, got None"),
        ({"compared": "analog(1)"}, "compared: a tuple of names of codes, got 'analog(1)'"),
        ({"seed": -1}, "seed: a whole number, at least 0, got -1"),
        ({"seed": 0.5}, "seed: a whole number, at least 0, got 0.5"),
        ({"memory_bytes": 1000}, "memory: at least 1,048,576 bytes (1 MB), got 1000"),
        ({"memory_bytes": "1GB"}, "memory: at least 1,048,576 bytes (1 MB), got '1GB'"),
    ],
)
def test_wrong_arguments_of_a_loss_model_are_refused_in_one_line(tiny, tiny_images, arguments, told):
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        physcomp.build_model(tiny, tiny_images, **({"card": "ideal"} | arguments))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        ([], "budgets: at least one number of cells per weight, got none"),
        ("1.0", "budgets: a list of cells per weight such as [0.5, 1], got '1.0'"),
        (1.0, "budgets: a list of cells per weight such as [0.5, 1], got 1.0"),
        (["1"], "budgets: cells per weight are finite numbers above 0, got '1'"),
        ([1.0, 0.0], "budgets: cells per weight are finite numbers above 0, got 0.0"),
        ([float("inf")], "budgets: cells per weight are finite numbers above 0, got inf"),
        ([float("nan")], "budgets: cells per weight are finite numbers above 0, got nan"),
        ([True], "budgets: cells per weight are finite numbers above 0, got True"),
    ],
)
def test_wrong_budgets_are_refused_in_one_line(model, tiny_images, budgets, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        physcomp.choose(model, tiny_images, budgets)


def test_an_infeasible_budget_is_refused_before_anything_is_solved(model, tiny_images, monkeypatch):
    least = model.least_budget("digital")
    monkeypatch.setattr("physcomp.choice.joint.qubo.solve", None)
    search = Search(parts=("all", "digital"))
    with pytest.raises(ValueError, match=rf"takes at least {least:.4f} cells/weight, got {least / 2:g}; raise it"):
        physcomp.choose(model, tiny_images, [50.0, least / 2], search=search)


def test_the_least_budget_is_feasible_and_less_is_not(model):
    least = model.least_budget()
    selection = model.selection(least, shrinkage=0.0)
    assert selection.feasible(selection.least_choice)
    with pytest.raises(ValueError, match=r"takes at least"):
        model.selection(0.999 * least, shrinkage=0.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shrinkages": ()}, "shrinkages: at least one number from 0 to 1, got ()"),
        ({"shrinkages": (0.0, 2.0)}, "shrinkages: numbers from 0 to 1, got 2.0"),
        ({"parts": ()}, "parts: at least one part of the menu, got ()"),
        ({"parts": "all"}, "parts: at least one part of the menu, got 'all'"),
        ({"solver": "anealer"}, "solver: none is called 'anealer'; use annealer"),
        ({"chips": 0}, "chips: a whole number, at least 1, got 0"),
        ({"seed": -1}, "seed: a whole number, at least 0, got -1"),
    ],
)
def test_wrong_settings_of_the_search_are_refused_in_one_line(settings, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        Search(**settings)

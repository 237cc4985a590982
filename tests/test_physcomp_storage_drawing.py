"""Drawings of plans and chips for notebooks: well-formed, escaped, no scripts, and bars as long as their shares."""

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest

import physcomp
from physcomp.storage import drawing

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model(tiny: physcomp.Network, tiny_images: physcomp.Images) -> physcomp.LossModel:
    menu = ("pruned", "digital(2)", "digital(4)", "analog(1)")
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=menu)


def texts(html: str) -> str:
    """All text of a drawing, after checks that hold for every drawing."""
    assert "script" not in html
    assert "http" not in html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    return " ".join(ElementTree.fromstring(html).itertext())


def mixed(model: physcomp.LossModel) -> physcomp.Plan:
    return physcomp.plan_of(model, np.arange(len(model.loss)) % 4, method="mixed <b>", shrinkage=0.0)


def test_bars_are_as_long_as_their_shares() -> None:
    html = drawing.stacked([("a & b", {"x": 0.25, "y": 0.75})], drawing.colours_of(["x", "y", "never"]))
    root = ElementTree.fromstring(f"<div>{html}</div>")
    widths = [float(rect.get("width", 0)) for rect in root.iter(f"{SVG}rect")]
    assert widths == [drawing.WIDTH * 0.25, drawing.WIDTH * 0.75]
    assert "never" not in "".join(root.itertext())


def test_every_code_has_a_colour_of_its_own() -> None:
    names = ("pruned", "digital(1)", "digital(2)", "digital(4)", "sparse(50,digital(2))", "analog(1)", "mine(3)")
    assert len(set(drawing.colours_of_codes(names).values())) == len(names)


def test_a_plan_draws_itself(model: physcomp.LossModel) -> None:
    plan = mixed(model)
    shown = texts(plan._repr_html_())
    assert "Plan mixed <b> of tiny on pcm-zarcone" in shown
    for name in (*model.menu, *model.layers):
        assert name.name in shown
    assert "smaller layers are not drawn" not in shown


def test_a_plan_of_many_layers_draws_the_largest(model: physcomp.LossModel) -> None:
    plan = mixed(model)
    many = tuple(dataclasses.replace(plan.layers[0], name=f"layer {number}") for number in range(50))
    shown = texts(dataclasses.replace(plan, layers=(*many, *plan.layers[1:]))._repr_html_())
    assert f"{52 - 40} smaller layers are not drawn" in shown


def test_plans_print_in_a_few_lines(model: physcomp.LossModel) -> None:
    plan = mixed(model)
    assert repr(plan).startswith("<Plan mixed <b> of tiny on pcm-zarcone")
    assert len(repr(plan)) < 150
    assert len(str(plan).splitlines()) == 4
    assert f"analog {plan.ledger['analog']:,.0f}" in str(plan)


def test_a_chip_draws_its_levels(model: physcomp.LossModel, tiny: physcomp.Network) -> None:
    chip = physcomp.store(tiny, mixed(model), seed=5)
    html = chip._repr_html_()
    assert "levels right after programming" in texts(html)
    drawn = [int("".join(rect.itertext()).split(": ")[1]) for rect in ElementTree.fromstring(html).iter(f"{SVG}rect")]
    assert sum(drawn) == 2 * chip.cells.levels.size
    assert repr(chip) == (
        f"<Chip 5 of tiny on {chip.plan.card}: {chip.cells.levels.size:,} analog cells, {len(chip.bits):,} bits, "
        f"{chip.plan.cells_per_weight:.4f} cells/weight>"
    )


def test_a_chip_without_analog_cells_says_so(model: physcomp.LossModel, tiny: physcomp.Network) -> None:
    chip = physcomp.store(tiny, physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0))
    assert "no analog cells" in texts(chip._repr_html_())

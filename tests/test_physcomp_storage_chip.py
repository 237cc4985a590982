import copy
import dataclasses
import hashlib
import json

import h5py
import numpy as np
import pytest
import torch

import devices
import physcomp
from physcomp.choice.planning import plan_of
from physcomp.curvature.couplings import couplings
from physcomp.networks.layers import layers_of, other_tensors


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", compared=("digital(2.32)",))


@pytest.fixture(scope="module")
def mixed(model):
    """Every code of the menu on some group."""
    choice = np.arange(len(model.loss), dtype=np.int64) * 5 % len(model.menu)
    return plan_of(model, choice, method="mixed", shrinkage=0.5, budget=9.0)


@pytest.fixture
def chip(tiny, mixed):
    return physcomp.store(tiny, mixed, seed=3)


WRITTEN = ("digits", "signs", "masks", "scales", "setup", "biases", "others")


def test_the_ledger_counts_the_bits_and_cells_really_written(chip, mixed):
    bits = sum(mixed.ledger[name] for name in WRITTEN) * mixed.bits_per_cell
    assert len(chip.bits) == pytest.approx(bits)
    assert chip.cells.levels.size == mixed.ledger["analog"]
    assert mixed.ledger["plan"] * mixed.bits_per_cell == pytest.approx(13 * 5)  # 13 groups, 30 codes: 5 bits
    assert mixed.cells_per_weight == pytest.approx(
        sum(mixed.ledger.values()) / 291
    )  # weights, biases, and scale and shift of the norm


PROTECTED = (
    *(
        "pruned",
        "digital(3)",
        "coded(3)",
        "codebook(2)",
        "sparse(50,digital(2))",
        "sparse(50,digital(2),9)",
        "sparse(60,digital(1),4)",
    ),
    *("sparse(50,analog(1,clip=20%))", "sparse(50,hybrid(2,1,split),2)", "analog(1,split)", "analog(1.5,sensitive)"),
    *("analog(3,sensitive=30%)", "mixed(digital(4),analog(1),25%)", "analog(1,clip)", "analog(2,pair,levels=4)"),
)


@pytest.fixture(scope="module")
def protected(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", read_time_s=3600.0, menu=PROTECTED)


@pytest.mark.parametrize("turn", range(3))
def test_masks_signs_and_cells_of_every_protection_have_their_place_in_the_ledger(protected, tiny, tmp_path, turn):
    choice = (np.arange(len(protected.loss), dtype=np.int64) * 3 + turn * 5) % len(protected.menu)
    plan = plan_of(protected, choice, method="mixed", shrinkage=0.0)
    stored = physcomp.store(tiny, plan, seed=1)
    assert len(stored.bits) == pytest.approx(sum(plan.ledger[name] for name in WRITTEN) * plan.bits_per_cell)
    assert stored.cells.levels.size == plan.ledger["analog"]
    sizes = np.concatenate([np.full(layer.groups, layer.weights) for layer in protected.layers])
    codes = [protected.menu[index] for index in choice]
    for name in ("masks", "signs"):
        bits = sum(getattr(code, f"{name[:-1]}_bits")(int(size)) for code, size in zip(codes, sizes, strict=True))
        assert plan.ledger[name] * plan.bits_per_cell == pytest.approx(bits)
    assert plan.ledger["masks"] > 0
    assert plan.ledger["digits"] > 0
    stored.save(tmp_path / "chip.h5")
    state, again = stored.read_back(), physcomp.load_chip(tmp_path / "chip.h5").read_back()
    assert all(torch.equal(state[name], again[name]) for name in state)
    for number, layer in enumerate(protected.layers):
        back = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)
        for group, index in enumerate(plan.layers[number].codes):
            code = protected.menu[index]
            # What is rounded and stored without noise comes back as it is to be written.
            if code.name == "pruned" or (code.keeps_rows and not code.analog_cells(layer.weights)):
                target = protected.rows_for(number, code)[group] if code.name != "pruned" else 0
                np.testing.assert_allclose(back[group], target, rtol=1e-5, atol=1e-7)


def test_a_plan_from_before_masks_had_their_own_entry_still_loads_and_stores(protected, tiny):
    plan = physcomp.uniform_plan(protected, "sparse(50,digital(2))", shrinkage=0.0)
    ledger = dict(plan.ledger)
    ledger["digits"] += ledger.pop("masks")
    old = dataclasses.replace(plan, ledger=ledger)
    loaded = physcomp.Plan.from_json(old.to_json())
    assert loaded == old
    assert loaded.cells == pytest.approx(plan.cells)
    np.testing.assert_array_equal(physcomp.store(tiny, loaded).bits, physcomp.store(tiny, plan).bits)


def test_a_chip_on_the_ideal_card_reads_back_the_network_but_for_stated_errors(tiny, tiny_images):
    model = physcomp.build_model(tiny, tiny_images, card="ideal", menu=("float32", "analog(1)"))
    plan = physcomp.uniform_plan(model, "float32", shrinkage=0.0)
    state = physcomp.store(tiny, plan).read_back()
    for name, tensor in tiny.module.state_dict().items():
        if name.endswith("weight"):
            assert torch.equal(state[name], tensor)
        else:
            np.testing.assert_allclose(state[name], tensor, rtol=2**-8)  # biases are bfloat16


def test_read_back_errors_of_a_chip_are_those_the_model_states(tiny, tiny_images, model):
    """Σ h δ² over many chips, with the bias taken as it is, against the model's own loss of a noisy code."""
    index = [code.name for code in model.menu].index("analog(1)")
    plan = physcomp.uniform_plan(model, "analog(1)", shrinkage=0.0)
    squares = np.zeros(len(model.layers))
    nothing = [np.zeros((*layer.rows.shape, 1), np.float32) for layer in model.layers]
    importances = [found.importance for found in couplings(tiny, model.layers, tiny_images, nothing)]
    chips = 300
    for seed in range(chips):
        state = physcomp.store(tiny, plan, seed=seed).read_back()
        for number, (layer, importance) in enumerate(zip(model.layers, importances, strict=True)):
            back = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)
            squares[number] += 0.5 * (importance * (back.astype(np.float64) - layer.rows) ** 2).sum() / chips
    for number, layer in enumerate(model.layers):
        scale = model.scales[number][:, index]
        _, variance = model.menu[index].error(layer.rows, scale, model.medium)
        mean = model.menu[index].error(layer.rows, scale, model.medium)[0]
        stated = 0.5 * (importances[number] * (variance + mean**2)).sum()
        # A sum of at least 18 weighted squares of normals over 300 chips: relative sd below √(2/(300·5)) = 3.7 %.
        assert squares[number] == pytest.approx(stated, rel=0.15)


def test_a_saved_chip_reads_back_bit_for_bit(chip, tiny, tmp_path):
    path = tmp_path / "chip.h5"
    chip.save(path)
    loaded = physcomp.load_chip(path)
    assert loaded.plan == chip.plan
    for name, tensor in chip.read_back(read=2).items():
        assert torch.equal(loaded.read_back(read=2)[name], tensor)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_saved_plan_comes_back_equal_and_tells_when_it_was_changed(mixed, tmp_path):
    path = tmp_path / "plan.json"
    mixed.save(path)
    assert physcomp.Plan.load(path) == mixed
    content = json.loads(path.read_text())
    content["layers"][0]["codes"][0] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not match its sha256"):
        physcomp.Plan.load(path)


def test_same_seed_same_chip_and_another_seed_another(tiny, mixed, chip):
    again, other = physcomp.store(tiny, mixed, seed=3), physcomp.store(tiny, mixed, seed=4)
    np.testing.assert_array_equal(again.cells.programmed, chip.cells.programmed)
    assert not np.array_equal(other.cells.programmed, chip.cells.programmed)
    np.testing.assert_array_equal(other.bits, chip.bits)


def test_digital_groups_carry_rounded_rows_exactly(tiny, tiny_images, model):
    plan = physcomp.uniform_plan(model, "digital(2.32)", shrinkage=0.0)
    state = physcomp.store(tiny, plan).read_back()
    for number, layer in enumerate(model.layers):
        code = next(code for code in model.menu if code.name == "digital(2.32)")
        back = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)
        np.testing.assert_allclose(back, model.rows_for(number, code), rtol=1e-6, atol=1e-9)
        assert max(len(np.unique(row)) for row in back) <= 5


def test_norms_that_cannot_be_folded_are_stored_and_counted(tiny_images):
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    module(torch.rand(32, 1, 8, 8))
    network = physcomp.wrap(module)
    assert sum(t.numel() for t in other_tensors(network.module, layers_of(network.module)).values()) == 16
    model = physcomp.build_model(network, tiny_images, card="ideal", menu=("float32",))
    plan = physcomp.uniform_plan(model, "float32", shrinkage=0.0)
    assert plan.ledger["others"] == 16 * 16 / 4  # sixteen numbers of sixteen bits, four bits a cell
    state = physcomp.store(network, plan).read_back()
    np.testing.assert_allclose(state["2.running_var"], network.module.state_dict()["2.running_var"], rtol=2**-8)
    score = physcomp.evaluate_state(network, state, tiny_images)
    assert score.loss == pytest.approx(physcomp.evaluate(network.module, tiny_images).loss, rel=0.01)


def test_a_plan_refuses_another_network_and_another_card(tiny, mixed):
    torch.manual_seed(9)
    other = physcomp.wrap(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 3)))
    with pytest.raises(ValueError, match=r"made for network tiny with sha256 \w+…, got network"):
        physcomp.store(other, mixed)
    with pytest.raises(ValueError, match="made for card pcm-zarcone:one-device, got pcm-nandakumar"):
        physcomp.store(tiny, mixed, card=devices.load_card("pcm-nandakumar"))


def test_a_plan_refuses_its_network_with_one_weight_changed_and_its_card_with_one_number_changed(tiny, mixed):
    changed = copy.deepcopy(tiny.module)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[3] += 1e-6
    with pytest.raises(ValueError, match=r"made for network tiny with sha256 \w+…, got tiny"):
        physcomp.store(dataclasses.replace(tiny, module=changed), mixed)
    card = devices.load_card("pcm-zarcone:one-device")
    other = devices.Card.from_text(card.text.replace("0.1", "0.11", 1), card.variant)
    assert other.name == card.name
    with pytest.raises(ValueError, match="got pcm-zarcone:one-device of other content"):
        physcomp.store(tiny, mixed, card=other)


def test_a_chip_file_with_the_card_of_another_plan_is_refused(chip, tmp_path):
    path = tmp_path / "chip.h5"
    chip.save(path)

    def change(file):
        del file["card"]
        text = devices.load_card("pcm-nandakumar").text
        file["card"] = text
        file["card"].attrs["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        file.attrs["variant"] = ""

    _with(path, change)
    with pytest.raises(ValueError, match="its card is not the one of its plan"):
        physcomp.load_chip(path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "no such chip"),
        (lambda path: path.write_bytes(b"not hdf5"), "not a readable HDF5 file"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "not a readable HDF5 file"),
        (lambda path: _with(path, lambda f: f.attrs.update(format="other")), "not a chip of physcomp"),
        (lambda path: _with(path, lambda f: f.attrs.update(version=99)), "chip version 99"),
        (lambda path: _with(path, lambda f: f["cells/programmed"].__setitem__(0, 0.5)), "does not match its checksum"),
        (lambda path: _with(path, lambda f: f.__delitem__("bits")), "incomplete"),
    ],
)
def test_each_damaged_or_foreign_chip_file_is_refused_in_one_line(chip, tmp_path, break_it, message):
    path = tmp_path / "chip.h5"
    chip.save(path)
    break_it(path)
    with pytest.raises(ValueError, match=message) as caught:
        physcomp.load_chip(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def _with(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a plan"),
        ('{"format": "physcomp-plan", "version": 7}', "plan version 7"),
        ('{"format": "physcomp-plan", "version": 1}', "incomplete"),
    ],
)
def test_each_damaged_or_foreign_plan_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        physcomp.Plan.load(path)


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such plan"):
        physcomp.Plan.load(tmp_path / "none.json")

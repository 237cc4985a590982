import json

import h5py
import numpy as np
import pytest
import torch

import devices
import physcomp
from physcomp.groups import layers_of, other_tensors
from physcomp.plan import plan_of


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone")


@pytest.fixture(scope="module")
def mixed(model):
    """Every code of the menu on some group."""
    choice = np.arange(len(model.loss), dtype=np.int64) * 5 % len(model.menu)
    return plan_of(model, choice, method="mixed", shrinkage=0.5, budget=9.0)


@pytest.fixture
def chip(tiny, mixed):
    return physcomp.store(tiny, mixed, seed=3)


def test_the_ledger_counts_the_bits_and_cells_really_written(chip, mixed):
    bits = sum(mixed.ledger[name] for name in ("digits", "signs", "scales", "biases", "norms")) * mixed.bits_per_cell
    assert len(chip.bits) == pytest.approx(bits)
    assert chip.cells.levels.size == mixed.ledger["analog"]
    assert mixed.ledger["plan"] * mixed.bits_per_cell == pytest.approx(13 * 5)  # 13 groups, 30 codes: 5 bits
    assert mixed.cells_per_weight == pytest.approx(sum(mixed.ledger.values()) / 270)


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
    chips = 300
    for seed in range(chips):
        state = physcomp.store(tiny, plan, seed=seed).read_back()
        for number, (layer, coupling) in enumerate(zip(model.layers, model.couplings, strict=True)):
            back = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)
            squares[number] += 0.5 * (coupling.importance * (back.astype(np.float64) - layer.rows) ** 2).sum() / chips
    for number, layer in enumerate(model.layers):
        scale = model.scales[number][:, index]
        _, variance = model.menu[index].error(layer.rows, scale, model.medium)
        mean = model.menu[index].error(layer.rows, scale, model.medium)[0]
        stated = 0.5 * (model.couplings[number].importance * (variance + mean**2)).sum()
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
        np.testing.assert_allclose(back, model.target(number, code), rtol=1e-6, atol=1e-9)
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
    assert plan.ledger["norms"] == 16 * 16 / 4  # sixteen numbers of sixteen bits, four bits a cell
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

import dataclasses

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import physcomp
from physcomp.choice.joint import Search

MENU = (
    "pruned", "digital(2)", "digital(4)", "sparse(50,digital(2))", "sparse(50,analog(1))", "analog(1)",
    "analog(1.5,sensitive)", "codebook(2)",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=MENU, seed=3)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.h5"
    model.save(path)
    return path


def chosen(model, images):
    plans = physcomp.choose(model, images, [1.5], search=Search(shrinkages=(0.0, 0.5))).plans
    return [dataclasses.replace(plan, proof=dataclasses.replace(plan.proof, seconds=0.0)).to_json() for plan in plans]


def test_a_loaded_model_chooses_what_the_built_one_chooses(model, saved, tiny, tiny_images):
    loaded = physcomp.load_model(saved, tiny, tiny_images)
    np.testing.assert_array_equal(loaded.loss, model.loss)
    np.testing.assert_array_equal(loaded.cost, model.cost)
    for number in range(len(model.layers)):
        for code in model.menu:
            np.testing.assert_array_equal(loaded.rows_for(number, code), model.rows_for(number, code))
    assert chosen(loaded, tiny_images) == chosen(model, tiny_images)


def test_a_loaded_model_goes_on_another_card_as_the_built_one(model, saved, tiny, tiny_images):
    other = {"card": "pcm-nandakumar", "read_time_s": 3600.0}
    loaded = physcomp.load_model(saved, tiny, tiny_images).on(**other)
    built = physcomp.build_model(tiny, tiny_images, **other, menu=MENU, seed=3)
    np.testing.assert_array_equal(loaded.loss, built.loss)
    np.testing.assert_array_equal(loaded.cost, built.cost)
    assert not np.allclose(loaded.loss, model.loss)


def test_a_digital_menu_on_another_card_only_counts_cells_anew(tiny, tiny_images, monkeypatch):
    menu = ("pruned", "digital(2)", "sparse(50,digital(3))")
    model = physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=menu)
    built = physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", menu=menu)
    monkeypatch.setattr("physcomp.choice.loss_model.measured_on", None)
    moved = model.on("pcm-nandakumar")
    np.testing.assert_array_equal(moved.loss, built.loss)
    np.testing.assert_array_equal(moved.cost, built.cost)
    assert not np.array_equal(moved.cost, model.cost)


def test_rows_in_a_temporary_file_are_the_rows_in_memory(model, saved, tiny, tiny_images, monkeypatch):
    monkeypatch.setattr("physcomp.choice.groundwork.FOR_ROWS", 1 << 40)
    parked = physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=MENU, seed=3)
    assert type(parked.importances[0]).__name__ == "Parked"
    for each in (parked, physcomp.load_model(saved, tiny, tiny_images)):
        np.testing.assert_array_equal(each.loss, model.loss)
        code = model.menu[3]
        np.testing.assert_array_equal(each.rows_for(0, code, np.array([2, 0])), model.rows_for(0, code)[[2, 0]])
        np.testing.assert_array_equal(each.rows_for(0, code, slice(1, 3)), model.rows_for(0, code)[1:3])


def test_another_network_or_other_samples_are_refused(saved, tiny, tiny_images):
    torch.manual_seed(5)
    other = physcomp.wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "other")
    with pytest.raises(ValueError, match=r"a loss model of network tiny, got other, which differs"):
        physcomp.load_model(saved, other, tiny_images)
    with pytest.raises(ValueError, match=r"from other calibration samples than these 39"):
        physcomp.load_model(saved, tiny, tiny_images[:39])


@pytest.mark.parametrize("place", [0.02, 0.2, 0.5, 0.8, 0.97])
def test_a_truncated_file_is_refused_in_one_line(saved, tiny, tiny_images, tmp_path, place):
    path = tmp_path / "cut.h5"
    content = saved.read_bytes()
    path.write_bytes(content[: int(place * len(content))])
    with pytest.raises(ValueError, match=r"cut\.h5: .*build") as refused:
        physcomp.load_model(path, tiny, tiny_images)
    assert "\n" not in str(refused.value)


def test_a_flipped_byte_in_any_data_set_is_refused_by_its_name(saved, tiny, tiny_images, tmp_path):
    places: list[str] = []
    with h5py.File(saved, "r") as file:
        file.visititems(lambda name, item: places.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(places) > 30
    for name in places[:: len(places) // 9]:
        path = tmp_path / "flipped.h5"
        path.write_bytes(saved.read_bytes())
        with h5py.File(path, "r+") as file:
            content = file[name][()]
            if isinstance(content, bytes):
                file[name][()] = content[:-1] + b"#"
            else:
                raw = content.copy().view(np.uint8).reshape(-1)
                raw[len(raw) // 2] ^= 1
                file[name][...] = raw.view(content.dtype).reshape(content.shape)
        with pytest.raises(ValueError, match=r"flipped\.h5: /.* does not match its checksum") as refused:
            physcomp.load_model(path, tiny, tiny_images)
        assert name in str(refused.value)


def test_what_is_no_loss_model_is_refused(saved, tiny, tiny_images, tmp_path):
    with pytest.raises(ValueError, match=r"none\.h5: no such loss model"):
        physcomp.load_model(tmp_path / "none.h5", tiny, tiny_images)
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text\.h5: not a readable HDF5 file"):
        physcomp.load_model(text, tiny, tiny_images)
    path = tmp_path / "changed.h5"
    for attribute, value, told in (
        ("version", 99, "loss model of version 99, this physcomp reads 2"),
        ("version", 1, "loss model of version 1, this physcomp reads 2; build it again"),
        ("settings", "{}", "its settings do not match their checksum"),
        ("format", "physcomp-chip", "but no loss model of physcomp"),
    ):
        path.write_bytes(saved.read_bytes())
        with h5py.File(path, "r+") as file:
            file.attrs[attribute] = value
        with pytest.raises(ValueError, match=told):
            physcomp.load_model(path, tiny, tiny_images)

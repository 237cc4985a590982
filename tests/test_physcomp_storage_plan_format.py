"""The plan as a file: arrays packed without loss, both versions read, and anything changed refused."""

import base64
import dataclasses
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import physcomp
from physcomp.storage.plan_format import pack_rows, unpack_rows

MENU = ("pruned", "digital(2)", "sparse(50,analog(1))", "analog(1.5,sensitive)", "analog(2)")


@pytest.fixture(scope="module", params=["plain", "bch over two times"])
def plan(request: pytest.FixtureRequest, tiny: physcomp.Network, tiny_images: physcomp.Images) -> physcomp.Plan:
    """Every kind of array in some layer, and none in another."""
    more: dict[str, Any] = {} if request.param == "plain" else {"ecc": "bch", "read_times_s": (60.0, 3600.0)}
    model = physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", read_time_s=60.0, menu=MENU, **more)
    choice = np.arange(len(model.loss)) % 5
    choice[-3:] = (0, 4, 4)
    made = physcomp.plan_of(model, choice, method="mixed", shrinkage=0.5, budget=9.0)
    return dataclasses.replace(made, parameters=0)  # as in plans of older versions


def packed_1(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode() if array.size else ""


def version_1(plan: physcomp.Plan) -> dict[str, Any]:
    """The plan as version 1 wrote it, fingerprint included: what the first releases did, step by step."""
    fields = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    del fields["parameters"]  # unknown then
    fields["storage"] = fields.pop("ecc")  # as it was called then
    fields |= {"format": "physcomp-plan", "version": 1, "proof": plan.proof.fields()}
    fields["layers"] = [
        {
            "name": layer.name,
            "shape": layer.shape,
            "codes": layer.codes.tolist(),
            "scales": layer.scales.tolist(),
            "written": packed_1(layer.rows) or base64.b64encode(zlib.compress(b"", 9)).decode(),
            "biases": layer.biases.tolist(),
            "cells": packed_1(layer.cells),
        }
        for layer in plan.layers
    ]
    fields = dict(json.loads(json.dumps(fields)))
    hashed = json.loads(json.dumps(fields))
    del hashed["method"], hashed["proof"]["seconds"]
    if hashed["storage"] == "bound":
        del hashed["storage"]
    if not hashed["read_times_s"]:
        del hashed["read_times_s"], hashed["over"]
    for layer in hashed["layers"]:
        if not layer["cells"]:
            del layer["cells"]
    fields["sha256"] = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
    return fields


FEW = st.sampled_from([0.0, -0.0, 0.25, -1.5, 3e-39])
ANY = st.floats(width=32, allow_nan=False)


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=FEW | ANY))
def test_packed_rows_come_back_bit_for_bit(rows: np.ndarray) -> None:
    back = unpack_rows(pack_rows(rows), rows.shape[1])
    np.testing.assert_array_equal(back.view(np.uint32), rows.view(np.uint32))


def test_rows_with_few_and_with_many_values_share_a_text() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((40, 700)).astype(np.float32)
    rows[::3] = random.integers(-3, 4, (14, 700))
    rows[1] = np.arange(700) % 256
    rows[2] = np.arange(700) % 257
    text = pack_rows(rows)
    np.testing.assert_array_equal(unpack_rows(text, 700), rows)
    assert len(base64.b64decode(text)) < 0.75 * rows.nbytes
    assert pack_rows(rows[:0]) == ""
    assert unpack_rows("", 700).shape == (0, 700)


def test_a_plan_of_version_1_is_read_with_its_sha256_and_is_the_same_as_in_the_present_one(plan: physcomp.Plan) -> None:
    old = physcomp.Plan.from_json(json.dumps(version_1(plan)))
    again = physcomp.Plan.from_json(old.to_json())
    assert old == plan == again
    assert old.sha256 == plan.sha256 == again.sha256
    assert json.loads(old.to_json())["version"] == 3


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("field", ["codes", "scales", "biases", "rows", "cells", "ledger", "name"])
def test_a_plan_of_which_one_number_was_changed_is_refused(plan: physcomp.Plan, version: int, field: str) -> None:
    content = version_1(plan) if version == 1 else json.loads(plan.to_json())
    layer = content["layers"][0]
    if field == "ledger":
        content["ledger"]["digits"] += 1
    elif field == "name":
        layer["name"] += "x"
    elif field in ("rows", "cells"):
        name = "written" if (field, version) == ("rows", 1) else field
        raw = bytearray(zlib.decompress(base64.b64decode(layer[name])))
        raw[-1] ^= 1
        layer[name] = base64.b64encode(zlib.compress(bytes(raw))).decode()
    else:
        layer[field][0] = 1 - layer[field][0]
    with pytest.raises(ValueError, match=r"does not match its sha256|cannot be read") as caught:
        physcomp.Plan.from_json(json.dumps(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["*", "AAAA", base64.b64encode(zlib.compress(b"\x01\0\0\0")).decode()])
def test_text_that_is_no_packed_array_is_refused_in_one_line(plan: physcomp.Plan, text: str) -> None:
    content = json.loads(plan.to_json())
    content["layers"][0]["rows"] = text
    with pytest.raises(ValueError, match="plan: its layers cannot be read") as caught:
        physcomp.Plan.from_json(json.dumps(content))
    assert "\n" not in str(caught.value)


def test_fingerprints_tell_plans_apart_by_all_but_the_method_and_the_seconds(plan: physcomp.Plan) -> None:
    first = plan.layers[0]
    proof = dataclasses.replace(plan.proof, seconds=plan.proof.seconds + 1)
    assert dataclasses.replace(plan, method="other", proof=proof).sha256 == plan.sha256
    changes: list[dict[str, Any]] = [
        {"codes": first.codes[::-1]},
        {"scales": 2 * first.scales},
        {"rows": -first.rows},
        {"biases": first.biases + 1},
        {"cells": first.cells + 1},
    ]
    others = [
        dataclasses.replace(plan, layers=(dataclasses.replace(first, **change), *plan.layers[1:])) for change in changes
    ]
    others += [dataclasses.replace(plan, budget=8.0), dataclasses.replace(plan, ledger={**plan.ledger, "plan": 0.0})]
    assert len({plan.sha256, *(other.sha256 for other in others)}) == 1 + len(others)
    assert all(other != plan for other in others)


def test_a_chip_with_a_plan_of_version_1_reads_back_alike(
    plan: physcomp.Plan, tiny: physcomp.Network, tmp_path: Path
) -> None:
    chip = physcomp.store(tiny, plan, seed=1)
    chip.save(tmp_path / "chip.h5")
    text = json.dumps(version_1(plan))
    with h5py.File(tmp_path / "chip.h5", "r+") as file:
        del file["plan"]
        file["plan"] = text
        file["plan"].attrs["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    loaded = physcomp.load_chip(tmp_path / "chip.h5")
    assert loaded.plan == plan
    for name, tensor in chip.read_back().items():
        assert torch.equal(loaded.read_back()[name], tensor)


def test_a_trained_plan_of_version_1_is_stored_as_the_version_that_wrote_it_stored_it(data_dir: Path) -> None:
    """The SHA-256 of all bits was taken with the code that wrote the plan; it has no analog cells."""
    folder = data_dir / "trained" / "0.20"
    plan, network = physcomp.Plan.load(folder / "plan.json"), physcomp.load_network(folder / "net.toml")
    chip = physcomp.store(network, plan)
    assert (
        hashlib.sha256(chip.bits.tobytes()).hexdigest()
        == "4986174dfe82f447b929fab24a1fc90d5517fadcf4ce69bc029702334818c232"
    )
    assert chip.cells.levels.size == 0


def test_the_arrays_of_a_plan_cannot_be_changed(plan: physcomp.Plan) -> None:
    for name in ("codes", "scales", "rows", "biases", "cells"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(plan.layers[0], name)[:] = 0


def test_a_layer_whose_arrays_do_not_fit_is_refused_in_one_line(plan: physcomp.Plan) -> None:
    layer = plan.layers[0]
    for name in ("scales", "rows", "biases", "cells"):
        wrong: dict[str, Any] = {name: np.zeros((2, 3, 4))}
        with pytest.raises(
            ValueError, match=rf"plan: layer '{layer.name}' .* has {name} of shape [^\n]+; make it again$"
        ):
            dataclasses.replace(layer, **wrong)

"""What building a loss model will cost: sums of what the parts take, and memory as it is then measured."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import devices
import physcomp
from physcomp.choice import costs, process, trials
from physcomp.choice.setting import Setting
from physcomp.codes import Medium
from physcomp.codes.menu import read_menu
from physcomp.networks.survey import survey

ROOM = 1 << 28


@pytest.fixture(scope="module")
def setting(tiny: physcomp.Network, tiny_images: physcomp.Images) -> Setting:
    menu = read_menu(("pruned", "digital(2)", "sparse(50,digital(2))", "analog(1)"))
    medium = Medium(devices.load_card("ideal"), 0.0)
    return Setting(tiny, tiny_images, survey(tiny, tiny_images).layers, menu, medium, ROOM)


def test_stages_add_up(setting: Setting) -> None:
    found = costs.costs_of(setting, 1.5)
    assert found.stages["survey"] == 1.5
    assert all(seconds >= 0 for seconds in found.stages.values())
    assert found.processor_s == pytest.approx(sum(found.stages.values()))
    assert found.processor_s / found.cores <= found.seconds <= found.processor_s
    assert found.memory_bytes >= process.taken_now() * 0.9


def test_costs_are_told_in_one_line() -> None:
    told = str(costs.Costs({"a": 90.0, "b": 510.0}, 300.0, 2, 3_000_000_000))
    assert told == (
        "the loss model will take about 10 min of the processor, 5 min on 2 idle cores, and at most 3.0 GB of memory"
    )


def test_seconds_grow_with_size_as_the_trials_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that work itself advances: 0.002 s a call, and 0.001 s for each unit."""
    clock = [0.0]
    monkeypatch.setattr("physcomp.choice.trials.time.process_time", lambda: clock[0])

    def work(size: int) -> None:
        clock[0] += 0.002 + 0.001 * size

    assert trials.by_size(work, 1000) == pytest.approx((0.002, 0.001))
    assert trials.by_size(work, 1) == pytest.approx((0.0, 0.003))


def test_layers_take_what_the_nearest_kind_takes(setting: Setting) -> None:
    kinds = {layer.weights: (1.0, float(layer.weights)) for layer in setting.layers}
    weights = sum(layer.rows.size for layer in setting.layers)
    assert trials._of_all(setting.layers, kinds) == pytest.approx(len(setting.layers) + weights)


def test_memory_grows_with_what_is_collected_and_stays_within_the_setting(setting: Setting) -> None:
    few, many = (
        costs._of_couplings(dataclasses.replace(setting, samples=setting.samples[:count]), [0.0], 1)
        for count in (10, 40)
    )
    columns = 5 * sum(layer.groups for layer in setting.layers)
    probes = setting.probes.probes
    assert many - few <= 2 * 4 * 30 * probes * columns
    held = setting.weights * costs._held(setting)
    assert costs._held(setting) == 4 + 2  # importance, and digits with and without a mask
    parameters = 4 * sum(each.numel() for each in setting.network.module.parameters())
    assert few >= held + parameters
    assert many < ROOM


def test_one_thread_at_a_time_goes_through_exchanged_weights(setting: Setting) -> None:
    batch = setting.couplings[1][0]
    network = costs._passing(setting, batch, 0.0, 1)
    assert costs._passing(setting, batch, 100.0, 3) == network + 300
    mapped = tuple(dataclasses.replace(layer, adapter="mapped") for layer in setting.layers)
    assert costs._passing(dataclasses.replace(setting, layers=mapped), batch, 100.0, 3) == 2 * network + 100


@pytest.mark.skipif(not process.CLEAR.exists(), reason="the system does not tell")
def test_the_peak_of_work_is_seen() -> None:
    def work() -> int:
        return int(np.ones(1 << 23).sum())

    found, peak = process.peak_of(work)
    assert found == 1 << 23
    assert peak is not None
    assert 0.9 * (1 << 26) < peak < 1.3 * (1 << 26)


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "STATUS", tmp_path / "none")
    monkeypatch.setattr(process, "CLEAR", tmp_path / "none" / "none")
    assert process.peak_of(lambda: 7) == (7, None)
    assert process.taken_now() > 1 << 20


SCRIPT = """
import torch
from torch import nn
import physcomp
from physcomp.choice import process
torch.manual_seed(0)
module = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 10))
samples = physcomp.Samples(torch.rand(300, 400), torch.randint(0, 10, (300,)))
network = physcomp.wrap(module, samples=samples)
stated = physcomp.inspect(network, samples, card="ideal").costs.memory_bytes
process.CLEAR.write_text(process.PEAK_AGAIN)
physcomp.build_model(network, samples, card="ideal")
print(stated / process._of("VmHWM"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not process.CLEAR.exists(), reason="the system does not tell")
def test_memory_is_stated_within_a_third() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert 0.7 < float(done.stdout) < 1.3

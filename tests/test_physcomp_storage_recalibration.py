"""Recalibration: gains and biases undo what has drifted, moments match, and their bits are counted."""

import dataclasses

import numpy as np
import pytest
import torch

import physcomp
from physcomp.storage.recalibration import _moments, recalibrate


def drifted(network: physcomp.Network, seed: int = 0) -> dict[str, torch.Tensor]:
    """Each channel's weights and bias multiplied by a factor of its own."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.module.state_dict().items():
        factor = 0.5 + torch.rand(len(tensor), generator=generator)
        state[name] = tensor * factor.reshape(-1, *[1] * (tensor.dim() - 1))
    return state


def test_factors_of_channels_are_undone(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    """Up to bfloat16 gains and biases, 2^-8 each, over three layers."""
    state = recalibrate(tiny, drifted(tiny), tiny_images, bits_per_cell=2.0).state
    for name, tensor in tiny.module.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0.03, atol=0.01)


def test_moments_of_every_channel_match_the_clean_network(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    generator = torch.Generator().manual_seed(1)
    noisy = {
        name: tensor + 0.1 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in tiny.module.state_dict().items()
    }
    layers = physcomp.layers_of(tiny.module)
    module = physcomp.prepare(tiny.module)
    module.load_state_dict(recalibrate(tiny, noisy, tiny_images, bits_per_cell=2.0).state)
    ours, wanted = (_moments(n, layers, tiny_images) for n in (dataclasses.replace(tiny, module=module), tiny))
    assert len(wanted) == 3
    for name in wanted:
        torch.testing.assert_close(ours[name][1], wanted[name][1], rtol=0.01, atol=1e-6)
        assert bool(((ours[name][0] - wanted[name][0]).abs() < 0.01 * (wanted[name][1] + wanted[name][0].abs())).all())


def test_biases_alone_leave_weights_alone_and_cost_half(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    state = drifted(tiny)
    both = recalibrate(tiny, state, tiny_images, bits_per_cell=2.0)
    biases = recalibrate(tiny, state, tiny_images, bits_per_cell=2.0, gains=False)
    assert (both.extra_bits, biases.extra_bits) == (13 * 32, 13 * 16)
    assert (both.extra_cells, biases.extra_cells) == (13 * 16, 13 * 8)
    for name, tensor in state.items():
        assert torch.equal(biases.state[name], tensor) == name.endswith("weight")


def test_gains_and_biases_are_bfloat16_numbers(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    state = drifted(tiny)
    found = recalibrate(tiny, state, tiny_images, bits_per_cell=2.0).state
    for name, tensor in found.items():
        if name.endswith("bias"):
            assert torch.equal(tensor, tensor.bfloat16().float())
        else:
            gain = (tensor / state[name]).flatten(1)
            np.testing.assert_allclose(gain, gain[:, :1].bfloat16().float().expand_as(gain), rtol=1e-5)


def test_what_is_given_is_left_alone(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    state = drifted(tiny)
    before, sha256 = {name: tensor.clone() for name, tensor in state.items()}, tiny.sha256
    recalibrate(tiny, state, tiny_images, bits_per_cell=2.0)
    assert tiny.sha256 == sha256
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_a_state_of_another_network_and_no_bits_are_refused(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    with pytest.raises(ValueError, match=r"has no '.*weight'"):
        recalibrate(tiny, {}, tiny_images, bits_per_cell=2.0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        recalibrate(tiny, drifted(tiny), tiny_images, bits_per_cell=0)
    name, tensor = next(iter(drifted(tiny).items()))
    with pytest.raises(ValueError, match=f"weights in '{name}', the read-back") as caught:
        recalibrate(tiny, {**drifted(tiny), name: tensor[:1]}, tiny_images, bits_per_cell=2.0)
    assert "\n" not in str(caught.value)

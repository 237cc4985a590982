"""Random families of selection problems, for comparing solvers on more than one network.

Losses fall with the bits kept and are heavy-tailed over groups, as measured layer sensitivities are; all numbers
here are our choice. In every family with couplings ½‖a_gk‖² = loss, so the energy is ½‖Σ a‖² exactly.

- S: separable, a plain multiple-choice knapsack.
- Q: blocks of 16 groups, neighbours up to two apart coupled, moderately.
- R: the same band with strong couplings; rugged, because errors that cancel pay.
- D: blocks of 16 groups, every pair coupled.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qubo.checks import check_seed, check_whole, shown
from qubo.selection import Block, Selection

Family = Literal["S", "Q", "R", "D"]

BLOCK_GROUPS = 16
BITS = np.array([0.0, 2.0, 3.0, 4.0, 6.0, 8.0])
"""Bits a weight of the six codes the families were first measured with."""
RELATIVE_LOSS = np.array([1.0, 0.1175, 0.03454, 0.009497, 0.00104, 6e-5])
"""Loss of these codes relative to pruning: an optimal Gaussian quantizer's up to 4 bits (Max 1960), then less."""
BUDGET_BITS = 3.0
"""Budget, in bits per weight."""
# Spread of a group's direction along the band, and of its codes around it.
BAND = {"Q": (0.3, 0.2, 0.2), "R": (0.6, 0.4, 0.5)}


def generate(family: Family, *, groups: int = 200, codes: int = 6, seed: int = 0) -> Selection:
    """A problem of a family, the same for the same arguments.

    Args:
        family: "S", "Q", "R" or "D".
        groups: number of groups, at least 1.
        codes: codes per group, at least 2; with other than 6 the bits 0..8 are interpolated.
        seed: seed of the generator, a whole number from 0 to 2^63 - 1.

    Raises:
        ValueError: an unknown family, or numbers that are not whole or too small.

    >>> problem = generate("Q", groups=40, seed=1)
    >>> problem.loss.shape, len(problem.blocks), problem.blocks[0].groups.size
    ((40, 6), 3, 16)
    """
    if not isinstance(family, str) or family not in get_args(Family):
        raise ValueError(f"family must be S, Q, R or D, got {shown(family)}: pass one of these letters")
    check_whole("groups", groups, least=1)
    check_whole("codes", codes, least=2)
    check_seed(seed)
    rng = np.random.default_rng((seed, groups, codes))
    bits, relative = _menu(codes)
    size = np.clip(np.exp(rng.normal(0, 0.6, groups)) * 32, 4, 512).astype(np.int64)
    sensitivity = (1 + rng.pareto(1.5, groups)) * np.exp(rng.normal(0, 0.7, groups)) * size / 32.0
    noisy = relative * np.exp(rng.normal(0, 0.15, (groups, codes)))
    loss = sensitivity[:, None] * -np.sort(-noisy, axis=1)
    blocks: list[Block] = []
    if family != "S":
        for first in range(0, groups, BLOCK_GROUPS):
            members = np.arange(first, min(first + BLOCK_GROUPS, groups))
            directions = _directions(family, members.size, codes, rng)
            blocks.append(Block.from_factors(members, directions * np.sqrt(2 * loss[members])[:, :, None]))
    budget = float(BUDGET_BITS * size.sum())
    return Selection(loss=loss, cost=size[:, None] * bits, budget=budget, blocks=tuple(blocks))


def _menu(codes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits and relative losses of `codes` codes, interpolated (losses in the logarithm) where not 6."""
    if codes == BITS.size:
        return BITS, RELATIVE_LOSS
    bits = np.linspace(BITS[0], BITS[-1], codes)
    return bits, np.exp(np.interp(bits, BITS, np.log(RELATIVE_LOSS)))


def _directions(family: Family, members: int, codes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit vectors (m, K, D = 18) along which the errors of a block's groups point."""
    width = BLOCK_GROUPS + 2
    vectors = np.zeros((members, codes, width))
    for i in range(members):
        if family == "D":
            base = rng.normal(size=width) / np.sqrt(width)
            vectors[i] = base + 0.5 * rng.normal(size=(codes, width)) / np.sqrt(width)
        else:
            near, far, spread = BAND[family]
            band = np.array([1.0, near * rng.normal(), far * rng.normal()])
            vectors[i, :, i : i + 3] = band + spread * rng.normal(size=(codes, 3))
        vectors[i] *= rng.choice([-1.0, 1.0])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))

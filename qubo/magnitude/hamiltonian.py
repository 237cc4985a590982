"""Wang et al.'s magnitude Hamiltonian of filter pruning and one bit-width per layer, and its exact global optimum.

    H(p, q) = L_p(p) + β L_q(q) − γ R(p, q)

- p_{n,i} = 1: filter i of layer n is pruned. Layer n keeps b_n = 8 − Σ_k 2^k q_{n,k} bits a weight, k = 0, 1, 2.
- L_p = Σ_n (Σ_i (‖w_{n,i}‖₁ / N_{n,i}) p_{n,i})², N_{n,i} the weights of the filter.
- L_q = Σ_n c_n (Σ_k 2^k q_{n,k})², c_n = (layer's share of all weights) × (its mean |w|) [C].
- R, the share of stored bits removed [C]: (8 Σ N_{n,i} p_{n,i} + Σ_n N_n B_n − Σ N_{n,i} B_n p_{n,i}) / (8 Σ N_n) with
  B_n = Σ_k 2^k q_{n,k}; quadratic as it stands, so no auxiliary variables.

The form of H, of L_p and of the bits is the paper's, as independent accounts of it agree; [C] marks our choice, because
the paper's own L_q and R are not known to us. A magnitude proxy: no gradient and no curvature enters.

Source: Wang, Choong, Huang, Gerlinghoff, Goh, Liu, Luo, "Is Quantum Optimization Ready? An Effort Towards Neural
Network Compression using Adiabatic Quantum Computing", arXiv 2505.16332, FGCS 174 (2026) 107908.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import dimod

Vector = NDArray[np.float64]

MAX_BITS = 8
"""Bits a weight with none removed, as published."""
STEPS = np.array([1, 2, 4])
"""Bits that each of a layer's three variables removes, as published: 1 to 8 bits are left."""


@dataclass(frozen=True, eq=False)
class Compression:
    """The meaning of a state of the Hamiltonian: pruned filters and bit-widths.

    Attributes:
        pruned: for each layer (F,) bool, True where the filter is pruned.
        bits: for each layer the bits a weight of what is left, 1 to 8.
        energy: the state's H.
    """

    pruned: tuple[NDArray[np.bool_], ...]
    bits: tuple[int, ...]
    energy: float


@dataclass(frozen=True, eq=False)
class Magnitude:
    """The Hamiltonian of a network's layers.

    Variables are numbered layer by layer: a layer's filters p, then its three q.

    Attributes:
        means: for each layer (F,) the mean |w| of each filter, in the weights' unit.
        weights: for each layer (F,) the number of weights of each filter, at least 1.
        beta: weight of the quantization term, at least 0.
        gamma: weight of the reward for bits removed, at least 0.

    Raises:
        ValueError: with one line naming what is wrong.

    >>> layer = Magnitude(means=[[0.5, 0.1]], weights=[[9, 9]], beta=1.0, gamma=0.2)
    >>> best = layer.optimum()
    >>> best.pruned[0].tolist(), best.bits, round(best.energy, 4)
    ([False, True], (8,), -0.09)
    """

    means: tuple[Vector, ...]
    weights: tuple[Vector, ...]
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        for name, value in (("beta", self.beta), ("gamma", self.gamma)):
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be at least 0, got {value}: pass a finite weight")
        if len(self.means) == 0 or len(self.means) != len(self.weights):
            raise ValueError(
                f"means and weights must name the same layers, got {len(self.means)} and {len(self.weights)}: "
                "pass one array a layer, at least one"
            )
        checked = [_layer(n, *pair) for n, pair in enumerate(zip(self.means, self.weights, strict=True))]
        object.__setattr__(self, "means", tuple(mean for mean, _ in checked))
        object.__setattr__(self, "weights", tuple(count for _, count in checked))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.means)

    @property
    def variables(self) -> int:
        """Number of binary variables."""
        return sum(mean.size for mean in self.means) + STEPS.size * self.layers

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of each layer's first variable."""
        sizes = [mean.size + STEPS.size for mean in self.means]
        return tuple(int(n) for n in np.cumsum([0, *sizes[:-1]]))

    @cached_property
    def total(self) -> float:
        """Weights of all layers."""
        return float(sum(count.sum() for count in self.weights))

    @cached_property
    def quantization_weights(self) -> Vector:
        """(layers,) c_n of L_q: share of the weights × mean |w| [C]; N_n × mean |w| is the sum of |w|."""
        return np.array([float(m @ c) for m, c in zip(self.means, self.weights, strict=True)]) / self.total

    def _state(self, p: ArrayLike, q: ArrayLike) -> tuple[list[Vector], Vector]:
        """Filters' flags by layer and (layers,) bits removed, checked."""
        flags, removal = np.asarray(p), np.asarray(q)
        filters = self.variables - STEPS.size * self.layers
        if flags.shape != (filters,) or removal.shape != (self.layers, STEPS.size):
            raise ValueError(
                f"a state is p ({filters},) and q ({self.layers}, {STEPS.size}), got {flags.shape} and "
                f"{removal.shape}: pass one flag a filter, layer after layer, and three a layer"
            )
        if not (np.isin(flags, (0, 1)).all() and np.isin(removal, (0, 1)).all()):
            raise ValueError("p and q must be 0 or 1, got other values: pass flags")
        ends = np.cumsum([mean.size for mean in self.means])[:-1]
        return np.split(flags.astype(np.float64), ends), (removal * STEPS).sum(axis=1).astype(np.float64)

    def terms(self, p: ArrayLike, q: ArrayLike) -> tuple[float, float, float]:
        """L_p, L_q and R of a state, see `energy`."""
        flags, removed = self._state(p, q)
        pruning = sum(float(mean @ flag) ** 2 for mean, flag in zip(self.means, flags, strict=True))
        gone = [
            MAX_BITS * float(count @ flag) + bits * float(count.sum() - count @ flag)
            for count, flag, bits in zip(self.weights, flags, removed, strict=True)
        ]
        return pruning, float(self.quantization_weights @ removed**2), float(sum(gone) / (MAX_BITS * self.total))

    def energy(self, p: ArrayLike, q: ArrayLike) -> float:
        """H of a state.

        Args:
            p: (filters of all layers,) 1 where a filter is pruned, layer after layer.
            q: (layers, 3) 1 where a layer gives up 1, 2 and 4 bits.

        Raises:
            ValueError: wrong shapes, or values other than 0 and 1.
        """
        pruning, quantization, reduction = self.terms(p, q)
        return float(pruning + self.beta * quantization - self.gamma * reduction)

    def to_bqm(self) -> dimod.BinaryQuadraticModel:
        """H as a binary quadratic model, equal to `energy` on every state; dense inside layers, as H is."""
        import dimod

        parts = [self._layer_terms(n) for n in range(self.layers)]
        linear, i, j, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        return dimod.BinaryQuadraticModel.from_numpy_vectors(linear, (i, j, value), 0.0, dimod.BINARY)

    def _layer_terms(self, n: int) -> tuple[Vector, NDArray[np.int64], NDArray[np.int64], Vector]:
        """Linear coefficients of a layer's variables, and its pairs i < j with their coefficients."""
        mean, count, start = self.means[n], self.weights[n], self.starts[n]
        reward = self.gamma / self.total  # for pruning one weight, all its eight bits
        step, width = STEPS / MAX_BITS, self.beta * self.quantization_weights[n]
        linear = np.concatenate([mean**2 - reward * count, width * STEPS**2 - reward * count.sum() * step])
        a, b = np.triu_indices(mean.size, 1)
        f, k = np.indices((mean.size, STEPS.size)).reshape(2, -1)
        r, s = np.triu_indices(STEPS.size, 1)
        i = np.concatenate([a, f, mean.size + r])
        j = np.concatenate([b, mean.size + k, mean.size + s])
        value = np.concatenate([2 * mean[a] * mean[b], reward * count[f] * step[k], 2 * width * STEPS[r] * STEPS[s]])
        return linear, start + i, start + j, value

    def decode(self, sample: ArrayLike) -> Compression:
        """Decode a sample (variables,) of zeros and ones, in the numbering of `to_bqm`."""
        state = np.asarray(sample)
        if state.shape != (self.variables,):
            raise ValueError(f"a sample has shape ({self.variables},), got {state.shape}: pass one value a variable")
        slices = [slice(s, s + m.size) for s, m in zip(self.starts, self.means, strict=True)]
        p = np.concatenate([state[part] for part in slices])
        q = np.array([state[part.stop : part.stop + STEPS.size] for part in slices])
        flags, removed = self._state(p, q)
        bits = tuple(int(MAX_BITS - b) for b in removed)
        return Compression(tuple(flag.astype(bool) for flag in flags), bits, self.energy(p, q))

    def optimum(self) -> Compression:
        """The state of least H, exactly, by sorting.

        H splits by layer. At each of a layer's eight bit-widths its filters, all of one size, earn the same reward, so
        that of all ways to prune m of them the m of smallest mean |w| have the least L_p: F + 1 candidates a bit-width,
        O(8 F log F) a layer. (Ours; the paper anneals.)

        Raises:
            ValueError: filters of one layer differ in size: then the problem holds subset sum, and sorting proves
                nothing.
        """
        found = [self._layer_optimum(n) for n in range(self.layers)]
        pruned, bits = tuple(flags for flags, _ in found), tuple(kept for _, kept in found)
        removed = MAX_BITS - np.array(bits)
        q = (removed[:, None] // STEPS) % 2
        return Compression(pruned, bits, self.energy(np.concatenate(pruned), q))

    def _layer_optimum(self, n: int) -> tuple[NDArray[np.bool_], int]:
        """Pruned filters and bits of a layer's optimum; the fewest pruned and the most bits among equals."""
        mean, count = self.means[n], self.weights[n]
        if (count != count[0]).any():
            raise ValueError(
                f"the exact optimum needs filters of one size in a layer, got {int(count.min())} to {int(count.max())} "
                f"weights in layer {n}: use a sampler on to_bqm()"
            )
        order = np.argsort(mean, kind="stable")
        pruning = np.concatenate([[0.0], np.cumsum(mean[order])]) ** 2
        removed = np.arange(MAX_BITS)[:, None]
        gone = np.arange(mean.size + 1) * count[0] * (MAX_BITS - removed) + removed * count.sum()
        value = (
            pruning
            + self.beta * self.quantization_weights[n] * removed**2
            - self.gamma * gone / (MAX_BITS * self.total)
        )
        least, m = np.unravel_index(int(value.argmin()), value.shape)
        flags = np.zeros(mean.size, dtype=bool)
        flags[order[:m]] = True
        return flags, int(MAX_BITS - least)


def _layer(number: int, mean: ArrayLike, count: ArrayLike) -> tuple[Vector, Vector]:
    """A layer's arrays as read-only float64, or one line naming what is wrong."""
    means, counts = np.array(mean, dtype=np.float64), np.array(count, dtype=np.float64)
    if means.ndim != 1 or means.size == 0 or counts.shape != means.shape:
        raise ValueError(
            f"layer {number}: means and weights must be rows of one length, got shapes {means.shape} and "
            f"{counts.shape}: pass one number a filter"
        )
    if not (np.isfinite(means).all() and (means >= 0).all()):
        raise ValueError(f"layer {number}: means of |w| must be finite and at least 0: check the weights")
    if not (np.isfinite(counts).all() and (counts >= 1).all()):
        raise ValueError(f"layer {number}: filters must have at least 1 weight: pass their numbers of weights")
    means.flags.writeable = counts.flags.writeable = False
    return means, counts

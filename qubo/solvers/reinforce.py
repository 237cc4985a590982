"""Reinforcement learning (classical): a policy, learnt by stable-baselines3's PPO, walks the groups and codes each.

The environment is a gymnasium one in the manner of HAQ and AMC, which quantize and prune layer by layer: at each group
the policy sees losses, costs, the couplings felt from the groups before it and what is left of the budget, and picks a
code; a code that would leave too little for the rest becomes the dearest one that does not, so that every episode ends
within the budget. Each step earns minus the energy it adds; or, at the end, whatever `reward` measures.

Sources: HAQ, Wang et al. 2019, arXiv 1811.08886; AMC, He et al. 2018, arXiv 1802.03494; PPO, Schulman et al. 2017,
arXiv 1707.06347; stable-baselines3, Raffin et al. 2021, JMLR 22(268).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from qubo.search.arrays import Layout, fields
from qubo.search.kernels import Indices, refresh
from qubo.search.watch import Outcome, Watch
from qubo.solvers.random import lowered
from qubo.solvers.solver import Prepared, Solver

Vector = NDArray[np.float64]
Reward = Callable[[Indices], float]

RESOLUTION = 1e4
"""Features grow with the logarithm of energies from 1 / RESOLUTION of the largest loss on (our choice)."""
STEPS = 1024
"""So many steps, or four episodes, before each update of the policy, unless fewer are asked for (our choice)."""
BATCH = 256
"""Steps a gradient is taken over (our choice)."""
YARDSTICKS = 16
"""Random choices whose mean energy is the unit of rewards."""


class Walk(gymnasium.Env[NDArray[np.float32], np.int64]):
    """One episode gives every group a code, in order, within the budget.

    An observation is a row of 4 C + 2 numbers in −1..1, C the largest number of usable codes of a group: the group's
    losses and the couplings it feels (both logarithmic), its costs over the dearest of all, which codes leave enough
    for the rest; then the share of the spendable budget left, and of groups left. A cost has the setup it would begin;
    the rest takes what it does in the choice of fewest cells.

    Args:
        layout: the kernels' view of a selection.
        reward: of a finished choice of menu indices (G,), larger is better; None rewards each step with minus the
            energy it adds, in units of a random choice's.
        seed: of the random choices that set this unit.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, layout: Layout, *, reward: Reward | None = None, seed: int = 0) -> None:
        a = layout.arrays
        C = a.loss.shape[1]
        self.layout, self.reward = layout, reward
        self.action_space = gymnasium.spaces.Discrete(C)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4 * C + 2,), np.float32)
        kept = layout.kept()
        self.kept, self.cheapest = kept, layout.cheapest()
        groups = np.arange(a.codes.size)
        least = a.cost[groups, self.cheapest]
        self.rest = np.append(np.cumsum(least[::-1])[::-1], 0.0)  # least that groups from g on take, but for setups
        self.last = np.full(layout.setup.size + 1, -1)  # the last group that then uses a setup; behind them, no setup
        np.maximum.at(self.last, layout.slot[groups, self.cheapest], groups)
        self.dearest = np.append(np.cumsum(a.cost.max(axis=1)[::-1])[::-1], 0.0)
        self.top = float(a.cost.max()) or 1.0
        self.unit = _yardstick(layout, seed)
        self.best, self.best_x = -np.inf, self.cheapest
        self.best_energy = np.inf

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begins again at the first group; nothing is random here."""
        super().reset(seed=seed)
        a = self.layout.arrays
        self.group, self.spent, self.energy = 0, 0.0, 0.0
        self.x = np.zeros(a.codes.size, dtype=np.int64)
        self.F, self.S = fields(a)
        self.begun = np.zeros(self.layout.setup.size, dtype=bool)
        return self._observation(), {}

    def _cells(self) -> Vector:
        """(C,) what each code of the group at hand takes, with the setup that it would begin."""
        g, layout = self.group, self.layout
        return np.asarray(layout.arrays.cost[g] + np.append(layout.setup * ~self.begun, 0.0)[layout.slot[g]])

    def _left_to_begin(self, g: int) -> Vector:
        """(N + 1,) cells of the setups that groups from g on still begin where they take the fewest cells."""
        return np.append(self.layout.setup * (~self.begun & (self.last[:-1] >= g)), 0.0)

    def allowed(self) -> NDArray[np.bool_]:
        """(C,) codes of the group at hand that leave enough for the groups after it."""
        g, begin = self.group, self._left_to_begin(self.group + 1)
        rest = self.rest[g + 1] + (begin.sum() - begin[self.layout.slot[g]])
        within = self.kept[g] & (self.spent + self._cells() + rest <= self.layout.limit)
        within[self.cheapest[g]] = True  # whatever the rounding of sums
        return np.asarray(within)

    def clamped(self, action: int) -> int:
        """The code that an action becomes: the action if allowed, else the dearest allowed one that is no dearer."""
        g, a = self.group, self.layout.arrays
        wanted, allowed = min(int(action), int(a.codes[g]) - 1), self.allowed()
        if allowed[wanted]:
            return wanted
        cells = self._cells()
        fits = allowed & (cells <= cells[wanted])
        return int(np.where(fits, cells, -1.0).argmax()) if fits.any() else int(self.cheapest[g])

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Gives the group at hand a code and goes on to the next."""
        g, a = self.group, self.layout.arrays
        k = self.clamped(int(action))
        added = float(a.loss[g, k] + self._felt(g)[k])
        self._place(g, k)
        self.spent += float(self._cells()[k])
        if self.layout.slot[g, k] >= 0:
            self.begun[self.layout.slot[g, k]] = True
        self.energy += added
        self.group += 1
        done = self.group == a.codes.size
        value = -added / self.unit
        if self.reward is not None:
            value = float(self.reward(self.layout.decode(self.x))) if done else 0.0
        if done:
            score = -self.energy if self.reward is None else value
            if score > self.best:
                self.best, self.best_x, self.best_energy = score, self.x.copy(), self.energy
        return self._observation(), value, done, False, {}

    def _felt(self, g: int) -> Vector:
        """(C,) pair energy of each code of a group with the codes given so far."""
        a = self.layout.arrays
        b = int(a.block[g])
        D = 0 if b < 0 else int(a.width[b])
        if D == 0:
            return np.asarray(self.F[g])
        C = a.loss.shape[1]
        rows = a.data[a.offset[b] + a.place[g] * C * D :][: C * D].reshape(C, D)
        return np.asarray(rows @ self.S[a.sums[b] : a.sums[b + 1]])

    def _place(self, g: int, k: int) -> None:
        a = self.layout.arrays
        self.x[g] = k
        b = int(a.block[g])
        if b < 0:
            return
        C, D = a.loss.shape[1], int(a.width[b])
        members = a.members[a.start[b] : a.start[b + 1]]
        length = D or members.size * C
        row = a.data[a.offset[b] + (a.place[g] * C + k) * length :][:length]
        if D == 0:
            self.F[members] += row.reshape(-1, C)
        else:
            self.S[a.sums[b] : a.sums[b + 1]] += row

    def _observation(self) -> NDArray[np.float32]:
        a = self.layout.arrays
        if self.group == a.codes.size:
            return np.zeros(self.observation_space.shape or (), dtype=np.float32)
        g = self.group
        spendable = self.dearest[g] - self.rest[g]
        rest = self.rest[g] + self._left_to_begin(g).sum()
        left = (self.layout.limit - self.spent - rest) / spendable if spendable > 0 else 1.0
        parts: list[Any] = [
            _squashed(np.where(self.kept[g], a.loss[g], np.inf)),
            _squashed(self._felt(g)),
            self._cells() / self.top,
            self.allowed(),
            [left, 1 - g / a.codes.size],
        ]
        return np.concatenate(parts).clip(-1.0, 1.0).astype(np.float32)


def _squashed(energy: Vector) -> Vector:
    """Energies to about −1..1, logarithmic beyond 1 / `RESOLUTION` of the largest loss."""
    size = np.log1p(RESOLUTION * np.minimum(np.abs(energy), 1e6)) / np.log1p(RESOLUTION)
    return np.asarray(np.sign(energy) * size)


def _yardstick(layout: Layout, seed: int) -> float:
    """Mean size of the energies of random choices within the budget, scaled."""
    a, rng = layout.arrays, np.random.default_rng((seed, YARDSTICKS))
    x = np.floor(rng.random((YARDSTICKS, a.codes.size)) * a.codes).astype(np.int64)
    F, S = fields(a)
    energies = [abs(refresh(a, row, F, S)[0]) for row in lowered(layout, x, rng)]
    return float(np.mean(energies)) or 1.0


class _Watched(BaseCallback):
    """Counts steps on the watch and stops the learning when it says so."""

    def __init__(self, watch: Watch, walk: Walk, scale: float) -> None:
        super().__init__()
        self.watch, self.walk, self.scale = watch, walk, scale

    def _on_step(self) -> bool:
        self.watch.add(1)
        if self.walk.group == 0:  # an episode has just ended
            self.watch.report(self.walk.best_energy * self.scale)
        return not self.watch.stopped()


@contextmanager
def _own_randomness() -> Iterator[None]:
    """One thread of torch, and the global generators, which stable-baselines3 seeds, as they were afterwards."""
    threads, states = torch.get_num_threads(), (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def search(
    problem: Prepared,
    watch: Watch,
    *,
    episodes: int = 300,
    reward: Callable[[Indices], float] | None = None,
) -> Outcome:
    """Learns for some episodes, then walks once without chance; the best choice met is the answer.

    Args:
        episodes: walks through all groups; with a time limit, as many as fit.
        reward: what a finished choice of menu indices (G,) earns, larger is better, such as minus a measured loss;
            minus the energy by default. With it, the answer is the choice that earned most.
    """
    layout, seed = problem.layout, problem.seed
    walk = Walk(layout, reward=reward, seed=seed)
    groups = layout.arrays.codes.size
    steps = episodes * groups if watch.limit is None else 2**40
    watch.expect(steps)
    rollout = BATCH * -(-min(max(STEPS, 4 * groups), steps) // BATCH)
    with _own_randomness():
        try:
            agent = PPO(
                "MlpPolicy", walk, n_steps=rollout, batch_size=BATCH, gamma=1.0, ent_coef=0.003, learning_rate=1e-3,
                seed=seed % 2**32, device="cpu",
            )  # fmt: skip
            agent.learn(steps, callback=_Watched(watch, walk, layout.scale))
            _walk_once(agent, walk)
        except KeyboardInterrupt:
            watch.interrupted = True
    return Outcome(layout.decode(walk.best_x), max(1, watch.evaluations))


def _walk_once(agent: PPO, walk: Walk) -> None:
    """The policy's likeliest codes."""
    seen, done = walk.reset()[0], False
    while not done:
        action, _ = agent.predict(seen, deterministic=True)
        seen, _, done, _, _ = walk.step(np.int64(action))


SOLVER = Solver(
    "reinforce",
    "classical",
    search,
    colour="#9C3D1A",
    dashes=":",
    reference="Schulman et al. 2017, arXiv 1707.06347",
)

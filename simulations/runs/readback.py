"""Read-back: loss and accuracy of a network read from cells, over chips, times and repeated reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

import devices
import physcomp
from physcomp.networks.samples import Inputs
from simulations.runs.metrics import mean_sd

StateOf = Callable[[physcomp.Chip, float, int], dict[str, torch.Tensor]]
"""A chip, seconds since programming and the number of the read -> parameters by name."""


@dataclass(frozen=True)
class Trial:
    """One chip read once.

    Args:
        trial: its number, from 0.
        seed: of the chip's programming.
        time_s: time of the read in seconds since programming.
        read: number of the read of that chip.
        loss: mean cross-entropy in nats.
        accuracy: share of images classified as labelled.
    """

    trial: int
    seed: int
    time_s: float
    read: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of loss and accuracy over trials; the standard deviation is 0 for one trial."""

    trials: int
    accuracy_mean: float
    accuracy_sd: float
    loss_mean: float
    loss_sd: float


def spread(trials: Iterable[Trial]) -> Spread:
    """Compute mean and sample standard deviation (n - 1) over trials.

    Raises:
        ValueError: there are none.

    Example:
        >>> a = Trial(trial=0, seed=0, time_s=0.0, read=0, loss=0.2, accuracy=0.90)
        >>> b = Trial(trial=1, seed=1, time_s=0.0, read=0, loss=0.4, accuracy=0.92)
        >>> round(spread([a, b]).accuracy_mean, 6)
        0.91
    """
    trials = list(trials)
    if not trials:
        raise ValueError("spread: there are no trials; run at least one")
    accuracy = mean_sd([trial.accuracy for trial in trials])
    loss = mean_sd([trial.loss for trial in trials])
    return Spread(len(trials), *accuracy, *loss)


def read_back(
    stored: physcomp.Chip | physcomp.Plan,
    inputs: Inputs,
    labels: torch.Tensor,
    *,
    network: physcomp.Network | None = None,
    card: devices.Card | str | None = None,
    trials: int = 1,
    times_s: Iterable[float] | None = None,
    seed: int = 0,
    state_of: StateOf | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Trial]:
    """Read a network back from chips and measure its loss and accuracy.

    Args:
        stored: a plan: each trial programmes a chip of its own, with seeds `seed`, `seed` + 1, …; or a chip: each
            trial is one more read of it.
        inputs: of `physcomp.Samples`; images are float32 (N, C, H, W), 0 for black and 1 for white.
        labels: of `physcomp.Samples`; classes are int64 (N,).
        network: the network stored; may be left out for a chip made in this process.
        card: the card of a plan; None: the built-in card that the plan names.
        trials: number of trials, at least 1.
        times_s: read times of each trial, in seconds since programming; None: the time that the plan was made for.
        seed: seed of the first chip.
        state_of: gives the parameters of a chip at a time and read; None: `Chip.read_back`.
        progress: called with the share that is done, 0 to 1.

    Returns:
        The trials, in order; each at all its times in turn.

    Raises:
        ValueError: no network or another than was stored, no trial, or a time outside the card's range.

    Example:
        >>> from pathlib import Path
        >>> network = physcomp.load_network("data/fashion-cnn.toml")
        >>> test = physcomp.load_images(Path("data/fashion-mnist"), "t10k")[:100]
        >>> model = physcomp.build_model(network, test, card="pcm-zarcone", menu=("digital(4)",))
        >>> plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
        >>> [trial] = read_back(plan, test.inputs, test.labels, network=network)
        >>> trial.accuracy > 0.85
        True
    """
    plan = stored.plan if isinstance(stored, physcomp.Chip) else stored
    if network is None and isinstance(stored, physcomp.Chip):
        network = stored.network
    if network is None:
        raise ValueError("read-back: a plan or a chip from a file holds no architecture; pass network=…")
    plan.check(network)
    if trials < 1:
        raise ValueError(f"read-back: needs at least one trial, got {trials}; raise it")
    times = [plan.read_time_s] if times_s is None else [float(time) for time in times_s]
    pairs = physcomp.Samples(inputs, labels)
    results = []
    for trial in range(trials):
        if isinstance(stored, physcomp.Chip):
            chip, read = stored, trial
        else:
            chip, read = physcomp.store(network, stored, card=card, seed=seed + trial), 0
        for time in times:
            state = state_of(chip, time, read) if state_of else chip.read_back(time_s=time, read=read)
            score = physcomp.evaluate_state(network, state, pairs)
            results.append(Trial(trial, chip.seed, time, read, score.loss, score.accuracy))
            if progress:
                progress(len(results) / (trials * len(times)))
    return results

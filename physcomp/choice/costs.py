"""What building a loss model will cost, known beforehand: seconds of the processor and memory.

Seconds are those of small trials, scaled up (`physcomp.choice.trials`). Memory is the sum of what is held at the same
time in each stage, by the sizes of the arrays.
"""

import os
from dataclasses import dataclass

import numpy as np

from physcomp.choice import trials
from physcomp.choice.groundwork import FOR_ROWS
from physcomp.choice.process import taken_now
from physcomp.choice.setting import Setting
from physcomp.compensation.rounding import AT_ONCE
from physcomp.curvature.batches import Part
from physcomp.threads import release_memory

FLOAT, DOUBLE = 4, 8  # bytes


@dataclass(frozen=True)
class Costs:
    """What building a loss model will cost.

    Args:
        stages: seconds of the processor by stage, all threads together.
        seconds: seconds of the clock, if the cores have nothing else to do.
        cores: number of cores.
        memory_bytes: the most memory that the process will take, with what it takes already.
    """

    stages: dict[str, float]
    seconds: float
    cores: int
    memory_bytes: int

    @property
    def processor_s(self) -> float:
        """Seconds of the processor, all stages together."""
        return sum(self.stages.values())

    def __str__(self) -> str:
        return (
            f"the loss model will take about {_duration(self.processor_s)} of the processor, "
            f"{_duration(self.seconds)} on {self.cores} idle cores, and at most {_size(self.memory_bytes)} of memory"
        )


def costs_of(setting: Setting, survey_s: float) -> Costs:
    """Estimate what a loss model will cost.

    Args:
        setting: what it is going to be built of.
        survey_s: seconds of the processor that the survey of the network took; building it surveys again.
    """
    codes = len(setting.codes) * setting.times
    first = [trials.gradients(setting, batch, 0) for batch in setting.blocks[1]]
    second = [trials.gradients(setting, batch, codes) for batch in setting.couplings[1]]
    fitted, erred = trials.fits(setting)
    added, averaged = trials.products(setting)
    threads = {
        "gradients for the curvature": sum(seconds for seconds, _ in first),
        "sums of the curvature": trials.blocks(setting),
        "rows with compensation": trials.rows(setting),
        "fits of codes": fitted,
        "errors of codes": erred,
        "gradients for the couplings": sum(seconds for seconds, _ in second),
        "products for the couplings": added,
    }
    one_thread = {"survey": survey_s, "means of the couplings": averaged}
    cores = os.cpu_count() or 1
    release_memory()
    peak = taken_now() + max(
        _of_curvature(setting, [taken for _, taken in first], cores),
        _of_couplings(setting, [taken for _, taken in second], cores),
    )
    seconds = sum(one_thread.values()) + sum(threads.values()) / cores
    return Costs({**one_thread, **threads}, seconds, cores, int(peak))


def _of_curvature(setting: Setting, taken: list[float], cores: int) -> float:
    """Bytes while the curvature is measured and rows are computed, at the most."""
    each = _held(setting)
    most = kept = 0.0
    for batch, of_sample in zip(setting.blocks[1], taken, strict=True):
        weights, blocks = setting.weights_in(batch), 0.0
        for part in batch:
            of_group = setting.layers[part.layer].weights
            size = min(of_group, setting.blocks[0])
            blocks += FLOAT * part.size * -(-of_group // size) * size**2
        gathered, at_once = setting.of_blocks(batch)
        passing = FLOAT * weights * (gathered + 1) + _passing(setting, batch, at_once * of_sample, cores)
        # Factors of a task's blocks in each thread, importance, and rows of the batch.
        writing = 3 * FLOAT * AT_ONCE * cores + (DOUBLE + each) * weights
        most = max(most, kept + blocks + max(passing, writing))
        kept += 0 if _on_disk(setting) else weights * each
    return most


def _of_couplings(setting: Setting, taken: list[float], cores: int) -> float:
    """Bytes while couplings are measured, at the most."""
    codes, run = len(setting.codes), setting.couplings[0]
    kept = 0.0 if _on_disk(setting) else setting.weights * _held(setting)
    most = 0.0
    noisy = sum(code.analog_cells(1 << 10) > 0 for code in setting.codes)
    for batch, of_sample in zip(setting.couplings[1], taken, strict=True):
        weights = setting.weights_in(batch)
        grams = sum(DOUBLE * (groups * (codes + 1)) ** 2 for _, groups in setting.runs_in(batch)) if run >= 2 else 0.0
        gathered, at_once = setting.of_couplings(batch)
        errors = weights * (FLOAT * (codes * setting.times + noisy) + DOUBLE)
        columns = FLOAT * gathered * setting.probes.probes * setting.columns_in(batch)
        passing = 2 * columns + _passing(setting, batch, at_once * of_sample, cores)
        most = max(most, kept + errors + grams + max(grams, passing))
        kept += grams
    return most


def _passing(setting: Setting, batch: list[Part], of_pass: float, cores: int) -> float:
    """Bytes of passes in all threads, with the copies of the network that they go through."""
    tape = setting.tape(batch)
    network = sum(tensor.nbytes for tensor in (*tape.module.parameters(), *tape.module.buffers()))
    # Exchanged weights are used by one thread at a time.
    return network * (2 if tape.indirect else 1) + of_pass * (1 if tape.indirect else cores)


def _held(setting: Setting) -> float:
    """Bytes of a weight that are held for good: its importance, and its rows for all codes."""
    weights = max(layer.weights for layer in setting.layers)
    masks = {code: code.mask_of(weights) for code in setting.codes}
    rounded = {(masks[code], code.alphabet) for code in setting.codes if code.alphabet}
    pruned = {mask for code, mask in masks.items() if mask and not code.alphabet}
    numbers = sum(np.min_scalar_type(alphabet.count).itemsize for _, alphabet in rounded)
    return FLOAT + numbers + FLOAT * len(pruned)


def _on_disk(setting: Setting) -> bool:
    """Whether rows are kept in a temporary file, as in `physcomp.choice.groundwork.keeper`."""
    return (4 + len(setting.codes)) * setting.weights > setting.memory_bytes // FOR_ROWS


def _duration(seconds: float) -> str:
    """Seconds in a unit that suits them.

    >>> _duration(12.34), _duration(600.0), _duration(20000.0)
    ('12 s', '10 min', '5.6 h')
    """
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    """Bytes in a unit that suits them.

    >>> _size(10**6), _size(3 * 10**9)
    ('1 MB', '3.0 GB')
    """
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"

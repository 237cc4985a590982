"""How long the parts of building a loss model take: each is tried on few samples or groups, and scaled up.

Times are of the processor, not of the clock, so that other programs hardly change them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.choice.fits import Fit, errors_of, fit_of
from physcomp.choice.process import peak_of
from physcomp.choice.setting import Setting
from physcomp.compensation.rows import RowsToWrite, rows_for_codes
from physcomp.curvature.batches import Part, layers_in
from physcomp.curvature.blocks import Curvature, _BlockSums, by_group
from physcomp.curvature.column_sums import _ColumnSums
from physcomp.curvature.couplings import along
from physcomp.networks.layers import Layer
from physcomp.networks.sample_gradients import Outer
from physcomp.networks.tape import weights_at_once
from physcomp.threads import in_threads

# Our choices: what is tried takes at least this long, or is all there is; and the sizes of trials.
LEAST_S = 0.05
SHARE, LEAST_SAMPLES = 40, 6  # one of so many samples is passed in a trial, but at least so many samples
ENTRIES = 1 << 15  # weights whose fits are tried
KINDS = 4  # kinds of layers whose fits are tried
COLUMNS = 1400  # columns of a run whose products are tried
FINE = 16  # weights in a block where rows of any curvature will do

Found = TypeVar("Found")
Size = tuple[float, float]
"""Seconds of work of size 0, and seconds of each unit of size."""


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the processor, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


def by_size(work: Callable[[int], object], most: int) -> Size:
    """How seconds grow with the size of work, by trials of rising size up to `most`."""
    work(1)  # what is loaded on first use does not count
    first = last = seconds_of(lambda: work(1))
    size = 1
    while last < LEAST_S and size < most:
        size = min(most, max(2 * size, int(size * LEAST_S / max(last, 1e-4))))
        last = seconds_of(lambda size=size: work(size))  # type: ignore[misc]
    if size == 1:
        return 0.0, last
    each = max(0.0, (last - first) / (size - 1))
    return max(0.0, last - each * size), each


def alone(work: Callable[[], Found]) -> Found:
    """The result of work in one thread, in which torch and BLAS use no others."""
    (found,) = in_threads(lambda _: work(), [0])
    return found


def gradients(setting: Setting, batch: list[Part], codes: int) -> tuple[float, float]:
    """Gradients of all samples for the groups of a batch, and what is done with them at once.

    Args:
        setting: what the model is built of.
        batch: the groups.
        codes: 0: gradients with one probe are collected; else those with several are multiplied with the errors of
            so many codes.

    Returns:
        Seconds for all samples, and bytes that each sample takes that passes.
    """
    met, tape = list(layers_in(setting.layers, batch)), setting.tape(batch)
    directions = setting.probes if codes else setting.one_probe
    errors = [_errors(layer, parts[0][1], codes) for layer, parts in met]
    every = setting.drawn_for_couplings if codes else setting.drawn
    count = min(every, max(LEAST_SAMPLES, every // SHARE))

    def passed(samples: int) -> float:
        part = slice(0, samples)
        start, more = time.process_time(), 0.0
        for index, gradient, bias in tape.products(setting.samples[part].inputs, directions.of(part)):
            some = errors[index].shape[0]
            used = seconds_of(lambda: _use(gradient, bias[:, :some], errors[index]))  # noqa: B023
            more += used * (sum(part.size for _, part in met[index][1]) / some - 1)
        return time.process_time() - start + more

    def tried() -> tuple[float, float]:
        passed(1)
        one = passed(1)
        several, peak = peak_of(lambda: passed(count))
        each = max((several - one) / max(1, count - 1), 0.5 * several / count)
        # Where the system does not tell: a layer's gradients, and as much again for what is done with them.
        taken = 8.0 * weights_at_once(tape.layers) * directions.probes if peak is None else peak / count
        return each * every, taken

    return alone(tried)


def _errors(layer: Layer, part: Part, codes: int) -> torch.Tensor:
    some = max(1, min(part.size, (1 << 20) // (layer.weights * max(1, codes))))
    return torch.zeros(some, layer.weights, codes)


def _use(gradient: torch.Tensor | Outer, bias: torch.Tensor, errors: torch.Tensor) -> None:
    """What is done with the gradients of some groups, the first of a layer, as soon as they are there."""
    (groups, weights, codes), some = errors.shape, slice(0, len(errors))
    if not codes:
        rows = by_group(gradient, some)
        torch.empty(rows.shape).copy_(rows)
        return
    mine, products = along(gradient, some, errors)
    if isinstance(mine, Outer):
        mine.power()
    else:
        power = torch.zeros(groups, weights)
        for row in mine:
            power.addcmul_(row, row)
    lengths = torch.empty((groups, codes + 1, products.shape[1]))
    lengths[:, :codes] = products.transpose(1, 2)
    lengths[:, codes] = bias.T


def blocks(setting: Setting) -> float:
    """Products of gradients inside the blocks of all groups, summed over samples, and their means."""
    size, batches = setting.blocks
    samples = setting.of_blocks(batches[0])[0]
    kinds: dict[tuple[int, bool], list[Layer]] = {}
    for layer in setting.layers:
        kinds.setdefault((layer.weights, layer.bias_of_group), []).append(layer)
    total = 0.0
    for (weights, _), layers in kinds.items():
        groups = sum(layer.groups for layer in layers)
        tried = max(1, min(groups, (1 << 22) // (weights * max(samples, min(weights, size)))))
        sums = _BlockSums(layers[0], Part(0, slice(0, tried)), size)
        rows, biases = torch.ones(tried, samples, weights), torch.ones(tried, samples)

        def add(sums: _BlockSums = sums, rows: torch.Tensor = rows, biases: torch.Tensor = biases) -> float:
            def once() -> None:
                for part in sums.tasks():
                    sums.add(part, rows[part], biases[part])

            once()
            return seconds_of(once)

        added = alone(add) * setting.drawn / samples
        sums.mean(1)
        total += (added + seconds_of(lambda sums=sums: sums.mean(1))) * groups / tried  # type: ignore[misc]
    return total


def rows(setting: Setting) -> float:
    """Rows with compensation for all codes. Each block is factored by itself, so that one of each size tells."""
    widths: dict[int, int] = {}
    for layer in setting.layers:
        size = min(layer.weights, setting.blocks[0])
        whole, rest = divmod(layer.weights, size)
        widths[size] = widths.get(size, 0) + whole * layer.groups
        if rest:
            widths[rest] = widths.get(rest, 0) + layer.groups
    total = 0.0
    generator = np.random.default_rng(0)
    for width, count in widths.items():
        most = max(1, min(count, (1 << 22) // width**2))
        given = generator.standard_normal((most, width)).astype(np.float32)
        noise = generator.standard_normal((max(2, width // 2), width)).astype(np.float32)
        block = ((noise.T @ noise)[None, None] / len(noise)).astype(np.float32)

        def written(size: int, given: NDArray[np.float32] = given, block: NDArray[np.float32] = block) -> None:
            rows_for_codes(given[:size], _curvature(np.repeat(block, size, axis=0), given[:size]), setting.codes)

        total += by_size(written, most)[1] * count
    return total


def _curvature(blocks: NDArray[np.float32], rows: NDArray[np.float32]) -> Curvature:
    return Curvature(np.ones(rows.shape), blocks)


def fits(setting: Setting) -> tuple[float, float]:
    """Fits of all codes to all layers, and the errors that the codes make."""
    kinds: dict[int, Layer] = {}
    for layer in sorted(setting.layers, key=lambda each: -each.rows.size):
        if len(kinds) < KINDS:
            kinds.setdefault(layer.weights, layer)
    fitting, erring = dict[int, Size](), dict[int, Size]()
    for weights, layer in kinds.items():
        most = max(1, min(layer.groups, ENTRIES // weights))
        given, importance = layer.rows[:most], np.ones((most, weights), np.float32)
        fine = np.tile(np.eye(min(FINE, weights), dtype=np.float32), (most, -(-weights // FINE), 1, 1))
        to_write = rows_for_codes(given, _curvature(fine, given), setting.codes)

        def fitted(
            size: int,
            importance: NDArray[np.float32] = importance,
            to_write: dict[str, RowsToWrite] = to_write,
        ) -> None:
            some = {name: _first(each, size) for name, each in to_write.items()}
            fit_of(importance[:size], some, setting.codes, setting.medium)

        fitting[weights] = by_size(fitted, most)
        fit = fit_of(importance, to_write, setting.codes, setting.medium)

        def erred(
            size: int,
            given: NDArray[np.float32] = given,
            importance: NDArray[np.float32] = importance,
            to_write: dict[str, RowsToWrite] = to_write,
            fit: Fit = fit,
        ) -> None:
            errors_of(given, importance, to_write, fit, setting.codes, setting.medium, slice(0, size))

        erring[weights] = by_size(erred, most)
    return _of_all(setting.layers, fitting), _of_all(setting.layers, erring)


def _first(written: RowsToWrite, groups: int) -> RowsToWrite:
    scales = None if written.scales is None else written.scales[:groups]
    return replace(written, held=written.held[:groups], scales=scales)


def _of_all(layers: Iterable[Layer], known: dict[int, Size]) -> float:
    """Seconds of all layers, each by those of the layer whose groups are nearest in size."""
    total = 0.0
    for layer in layers:
        weights = layer.weights
        near = min(known, key=lambda each: abs(np.log(each / weights)))
        once, each = known[near]
        total += once + each * layer.rows.size / near
    return total


def products(setting: Setting) -> tuple[float, float]:
    """Products of columns inside all runs; and, in one thread, their means with what biases compensate."""
    run, batches = setting.couplings
    probes, power = setting.probes.probes * setting.times, 2 if run >= 2 else 1
    collected = setting.of_couplings(batches[0])[0]
    known: dict[int, tuple[float, float]] = {}
    added = averaged = 0.0
    for layer, groups in (each for batch in batches for each in setting.runs_in(batch)):
        tried = max(1, min(groups, COLUMNS // (len(setting.codes) + 1)))
        if tried not in known:
            known[tried] = _product(setting, layer, tried, collected * probes)
        scale = (groups / tried) ** power
        added += known[tried][0] * scale * setting.drawn_for_couplings / collected
        averaged += known[tried][1] * scale
    return added, averaged


def _product(setting: Setting, layer: Layer, groups: int, entries: int) -> tuple[float, float]:
    given = torch.ones(groups, len(setting.codes) + 1, entries)

    def tried() -> list[tuple[float, float]]:
        found = []
        for _ in range(2):
            part = Part(0, slice(0, groups))
            sums = _ColumnSums(layer, part, len(setting.codes), setting.couplings[0], {}, 1, 1)
            start = time.process_time()
            for number in sums.tasks():
                sums.add(number, given)
            added = time.process_time() - start
            start = time.process_time()
            sums.mean(1, False)
            found.append((added, time.process_time() - start))
        return found

    return min(alone(tried))

"""Drift and read noise of all levels: from fits of single cells where reads allow it, else from pairs of reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from devices.fitting.drift import NOISY, LevelDrift, drift_of, fit_cells, fresh_growth, noise_growth, noise_of_pairs
from devices.fitting.writes import Writes

if TYPE_CHECKING:
    from devices.fitting.options import FitOptions

__all__ = ["drifts_of", "nearest"]

DRIFT_SPAN = 1.2  # least ratio of the last to the first time of reads for a fit of drift (our choice)


def drifts_of(
    writes: Writes, at_0: float | None, sign: int, options: FitOptions
) -> tuple[list[LevelDrift | None], list[str]]:
    """Fit drift and read noise of each level; None where neither can be estimated. Also notes for the report."""
    nothing: list[LevelDrift | None] = [None] * len(writes.written)
    if writes.time_s is None:
        repeated = writes.reads > len(writes.value)
        note = "repeated reads without times count as programming spread: give a time column or t0_s for read noise"
        return nothing, [note] if repeated else []
    if options.t_read_s > writes.t0_s:
        raise ValueError(
            f"t_read_s = {options.t_read_s:g} s must not exceed the first read at {writes.t0_s:g} s: correct it"
        )
    growth = fresh_growth(writes.write_of_read, writes.time_s, options.t_read_s, options.apart_s)
    log_time = np.log(writes.time_s / writes.t0_s)
    drifts = float(log_time.max()) >= math.log(DRIFT_SPAN)
    heights = (writes.read - (at_0 or 0.0)) * sign
    own = [writes.level_of_read == i for i in range(len(writes.written))]
    cells = [np.unique(writes.write_of_read[reads], return_inverse=True)[1].astype(np.int64) for reads in own]
    reference = float(noise_growth(writes.t0_s, options.t_read_s))
    found: list[LevelDrift | None] = []
    for reads, cell in zip(own, cells, strict=True):
        fits = fit_cells(cell, log_time[reads], growth[reads], heights[reads], drifts=drifts)
        found.append(drift_of(fits, reference, drifts=drifts, least=options.least_writes))
    if drifts and not any(found):
        return found, [
            "drift and read noise not fitted: no level has enough cells with 3 or more reads of modest noise"
        ]
    fitted = list(found)
    for i, (reads, cell) in enumerate(zip(own, cells, strict=True)):
        one = fitted[i]
        if one is not None and one.q * reference < NOISY:
            continue
        exponent = nearest(fitted, i, "exponent_mean")
        pairs = noise_of_pairs(cell, log_time[reads], growth[reads], heights[reads], exponent)
        if one is None or pairs is None:
            found[i] = one or pairs
        else:
            found[i] = replace(one, q=pairs.q, q_error=pairs.q_error)
    return found, _drift_notes(writes, fitted, drifts=drifts)


def _drift_notes(writes: Writes, fitted: list[LevelDrift | None], *, drifts: bool) -> list[str]:
    notes = [] if drifts else [f"drift not fitted: reads span less than {DRIFT_SPAN:g} times the first"]
    held = ", ".join(f"{written:g}" for written, one in zip(writes.written, fitted, strict=True) if one is None)
    if drifts and held:
        notes.append(
            f"drift at {held} is that of the nearest level, since single cells have too few or too noisy reads; "
            "q there is from differences of successive reads"
        )
    backward = [level for level in fitted if level is not None and level.growing]
    if backward:
        notes.append(
            f"{len(backward)} levels grow with time instead of decaying, which a card cannot say: exponent 0 there"
        )
    return notes


def nearest(drifts: list[LevelDrift | None], level: int, field: str) -> float:
    """A field of the drift of a level, or of the nearest level where it is known; 0 where it is known for none."""
    own = [(abs(i - level), float(getattr(one, field))) for i, one in enumerate(drifts) if one is not None]
    return min(((far, value) for far, value in own if math.isfinite(value)), default=(0, 0.0))[1]

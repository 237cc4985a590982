"""Gathering reads into writes: a write is one target or drive programmed to one cell of one device in one cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.fitting.measurements import Measurements

__all__ = ["Writes", "gather"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAME_TIME = 1.05  # reads up to 5 % later than the first one count as that one (our choice; drift below 0.5 %)


@dataclass(frozen=True, eq=False)
class Writes:
    """Writes, numbered from 0, and their reads; levels are numbered by rising target or drive.

    Attributes:
        source: name of the data.
        is_target: whether `written` holds targets, else drives.
        written: target or drive of each level, strictly rising, shape (levels,).
        t0_s: time of the first reads, in seconds after programming; 0 where no times are known.
        level, device: level and device of each write, shape (writes,); device is None if unknown.
        value: mean of the reads of each write at `t0_s`, in the unit of the level.
        repeats: number of those reads.
        repeat_variance: variance of those reads about their mean, shape (levels,); 0 where none is repeated.
        read, time_s: value and time of each read, shape (reads,); time_s is None if unknown.
        write_of_read, level_of_read: write and level of each read.
        notes: what was left out, a line each.
    """

    source: str
    is_target: bool
    written: FloatArray
    t0_s: float
    level: IntArray
    device: IntArray | None
    value: FloatArray
    repeats: FloatArray
    repeat_variance: FloatArray
    read: FloatArray
    time_s: FloatArray | None
    write_of_read: IntArray
    level_of_read: IntArray
    notes: tuple[str, ...]

    @property
    def reads(self) -> int:
        """Number of reads."""
        return len(self.read)

    def group(self, level: int) -> IntArray:
        """Device of each write of a level, numbered from 0 without gaps; all 0 where unknown."""
        own = self.level == level
        if self.device is None:
            return np.zeros(int(own.sum()), dtype=np.int64)
        return np.unique(self.device[own], return_inverse=True)[1].astype(np.int64)

    def only_levels(self, start: int, stop: int) -> Writes:
        """The writes of levels `start` to `stop - 1`."""
        own = (self.level >= start) & (self.level < stop)
        reads = (self.level_of_read >= start) & (self.level_of_read < stop)
        return Writes(
            source=self.source,
            is_target=self.is_target,
            written=self.written[start:stop],
            t0_s=self.t0_s,
            level=self.level[own] - start,
            device=None if self.device is None else self.device[own],
            value=self.value[own],
            repeats=self.repeats[own],
            repeat_variance=self.repeat_variance[start:stop],
            read=self.read[reads],
            time_s=None if self.time_s is None else self.time_s[reads],
            write_of_read=self.write_of_read[reads],
            level_of_read=self.level_of_read[reads] - start,
            notes=self.notes,
        )


def gather(measurements: Measurements) -> Writes:
    """Gather the reads of measurements into writes.

    Reads belong to one write when they share target or drive, device, cell and cycle; where there is neither a cycle
    nor a time, every read is a write of its own.

    Raises:
        ValueError: reads at several times without a label that says which of them belong to one write.
    """
    m = measurements
    span = float(np.ptp(m.written)) or 1.0
    rounded = np.round((m.written - m.written.min()) / span, 9)  # 0.1 + 0.2 and 0.3 are one level
    _, first, level = np.unique(rounded, return_index=True, return_inverse=True)
    labels = [label for label in (m.device, m.cell, m.cycle) if label is not None]
    if m.time_s is not None and not labels and len(np.unique(m.time_s)) > 1:
        raise ValueError(
            f"{m.source}: reads at several times need a column device, cell or cycle: which are of one write?"
        )
    if labels and (m.cycle is not None or m.time_s is not None):
        _, write = np.unique(np.column_stack([level, *labels]), axis=0, return_inverse=True)
    else:
        write = np.arange(len(m.read))
    written = np.array([float(f"{value:.9g}") for value in m.written[first]])
    return _reference(m, written, level.astype(np.int64), write.reshape(-1).astype(np.int64))


def _reference(m: Measurements, written: FloatArray, level: IntArray, write: IntArray) -> Writes:
    """Make the writes, each with the mean of its reads at the first time; writes without such a read are left out."""
    t0_s = 0.0 if m.time_s is None else float(m.time_s.min())
    at_first = np.ones(len(m.read), dtype=bool) if m.time_s is None else m.time_s <= SAME_TIME * t0_s
    count = np.bincount(write, at_first).astype(np.float64)
    kept = (count > 0.0)[write]
    notes = (
        [f"{int((count == 0.0).sum())} writes have no read at {t0_s:g} s and are left out"] if not kept.all() else []
    )
    _, write = np.unique(write[kept], return_inverse=True)
    read, level, at_first = m.read[kept], level[kept], at_first[kept]
    count = np.bincount(write, at_first).astype(np.float64)
    value = np.bincount(write, read * at_first) / count
    of_write = np.zeros(len(count), dtype=np.int64)
    of_write[write] = level
    squares = np.bincount(level, (read - value[write]) ** 2 * at_first, minlength=len(written))
    dof = np.bincount(of_write, count - 1.0, minlength=len(written))
    named = m.device if m.device is not None else m.cell
    device = None
    if named is not None:
        device = np.zeros(len(count), dtype=np.int64)
        device[write] = named[kept]
    return Writes(
        source=m.source,
        is_target=m.is_target,
        written=written,
        t0_s=t0_s,
        level=of_write,
        device=device,
        value=value,
        repeats=count,
        repeat_variance=squares / np.maximum(dof, 1.0),
        read=read,
        time_s=None if m.time_s is None else m.time_s[kept],
        write_of_read=write.astype(np.int64),
        level_of_read=level,
        notes=tuple(notes),
    )

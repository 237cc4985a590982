"""Read noise: the noise that one read of a cell adds, and how strongly two reads of one cell correlate.

1/f noise seen t seconds after programming has the variance q² ln((t + t_read) / (2 t_read)), since its frequencies
reach from 1 / (t + t_read) to 1 / (2 t_read) (S. R. Nandakumar et al., ICECS 2019). Two reads that lie `apart_s`
apart share the noise of all frequencies below 1 / apart_s: ln((t + t_read) / apart_s) of that logarithm (a model of
ours, with a sharp edge in frequency). This holds for repeated reads at one time. Reads with the same number at
different times use the same random draw, so that runs can be compared; the noise at each time is right by itself, but
the correlation between distant times is too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from devices.cards.curves import Constant, Curve
from devices.cards.fields import fields_of, positive, value_of
from devices.cards.parts import Level, curve_of

__all__ = ["ReadNoise"]

NOTHING = Constant(0.0)


@dataclass(frozen=True)
class ReadNoise:
    """Noise of one read: a relative part of sd growth · q(x), and independently an additive part of sd growth · sd(x).

    Attributes:
        t_read_s: duration of a read in seconds, for 1/f noise; None for white noise, whose growth is 1 at any time.
        q: curve of the relative part over the target level, dimensionless.
        sd: curve of the additive part, in levels.
        apart_s: seconds between consecutive reads; None where all reads are independent.
    """

    t_read_s: float | None
    q: Curve
    sd: Curve = NOTHING
    apart_s: float | None = None

    def growth(self, t_s: float) -> float:
        """How much 1/f noise has grown t seconds after programming: √ln((t + t_read) / (2 t_read)).

        >>> round(ReadNoise(t_read_s=250e-9, q=Constant(1.0)).growth(20.0), 3)
        4.184
        """
        if self.t_read_s is None:
            return 1.0
        return math.sqrt(math.log((t_s + self.t_read_s) / (2.0 * self.t_read_s)))

    def common(self, t_s: float) -> float:
        """Correlation of the noise of two reads of one cell, t seconds after programming.

        >>> noise = ReadNoise(t_read_s=250e-9, q=Constant(1.0), apart_s=1.0)
        >>> round(noise.common(20.0), 2), round(noise.common(86400.0), 2)
        (0.17, 0.44)
        """
        variance = self.growth(t_s) ** 2
        if self.t_read_s is None or self.apart_s is None or variance == 0.0:
            return 0.0
        slower = math.log((t_s + self.t_read_s) / self.apart_s) / variance
        return min(max(slower, 0.0), 1.0)


def read_noise_of(table: object, level: Level, t0_s: float) -> ReadNoise:
    """Read the table [read_noise] of a card; 1/f noise needs a reference read no earlier than one reading time."""
    given = fields_of(table, "read_noise", (), ("t_read_s", "q", "sd", "apart_s"))
    if "q" not in given and "sd" not in given:
        raise ValueError("read_noise needs q (a share of the level read), sd (in levels) or both: missing q, sd")
    t_read_s = given.get("t_read_s")
    if t_read_s is not None and not 0.0 < value_of(t_read_s, "float", "read_noise.t_read_s") <= t0_s:
        raise ValueError(
            f"read_noise.t_read_s needs to lie above 0 s and within time.t0_s = {t0_s:g}, not {t_read_s:g}"
        )
    apart_s = given.get("apart_s")
    if apart_s is not None and (t_read_s is None or positive(apart_s, "read_noise.apart_s") < 2.0 * t_read_s):
        raise ValueError(f"read_noise.apart_s needs 1/f noise and at least 2 t_read_s, not {apart_s!r}")
    return ReadNoise(
        t_read_s=None if t_read_s is None else float(t_read_s),
        q=curve_of(given["q"], "read_noise.q", level) if "q" in given else NOTHING,
        sd=curve_of(given["sd"], "read_noise.sd", level, in_levels=True) if "sd" in given else NOTHING,
        apart_s=None if apart_s is None else float(apart_s),
    )


def rereads_of(table: object, *, clamped: bool, changing: bool, noisy: bool) -> float:
    """Read the table [rereads] of a card: the correlation of two reads of one cell.

    It is for devices whose read noise was not measured apart from programming. The card's spread is then that of a
    single read, and a part of it is drawn anew in every further read.
    """
    given = fields_of(table, "rereads", ("correlation",))
    found = float(value_of(given["correlation"], "float", "rereads.correlation"))
    if not 0.0 <= found < 1.0:
        raise ValueError(f"rereads.correlation needs a number from 0 to below 1, not {found:g}")
    if clamped or changing or noisy:
        raise ValueError("rereads needs a card without clamp_at_0, [drift], [relaxation] and [read_noise]: drop it")
    return found

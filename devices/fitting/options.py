"""Options for fitting a card to measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FitOptions:
    """Options for fitting a card to measurements; the defaults suit most data.

    Attributes:
        curve: "smooth" for a monotone cubic through the isotonic means, "isotonic" for straight lines.
        monotone_range: cut the card to the range where the response is monotone, with a note; False raises an error.
        at_0: physical value of level 0. None: 0 where `clamp_at_0` or where cells were read at several times (a
            power law needs a true zero), otherwise the mean response at the lowest drive or target.
        clamp_at_0: the device cannot go below level 0; the sd is then that of the normal distribution before clamping.
        t0_s: seconds from programming to the reads, for data without a time column.
        t_read_s: duration of one read, for 1/f noise; 250 ns as published for phase-change memory.
        apart_s: seconds between reads that state the same time; 1 s, as on the built-in cards.
        max_s: last time at which the card holds, in seconds after the reference read; None: the last one measured.
        least_writes: number of writes that each level needs.
        seed: seed of the simulations that give the p value of normality.
    """

    curve: str = "smooth"
    monotone_range: bool = True
    at_0: float | None = None
    clamp_at_0: bool = False
    t0_s: float | None = None
    t_read_s: float = 250e-9
    apart_s: float = 1.0
    max_s: float | None = None
    least_writes: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.curve not in ("smooth", "isotonic"):
            raise ValueError(f"curve must be smooth or isotonic, not '{self.curve}': pass one of them")
        for name in ("t0_s", "t_read_s", "apart_s", "max_s"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(
                    f"{name} must be a number of seconds above 0, not {value:g}: leave it out or correct it"
                )
        if self.least_writes < 3:
            raise ValueError(f"least_writes must be 3 or more for an sd, not {self.least_writes}: take for example 5")

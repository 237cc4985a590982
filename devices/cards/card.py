"""The device card: everything known about one kind of memory cell, read from a TOML file and checked.

A card states the programming noise, the drift or relaxation and the read noise of a cell, the times and temperatures
at which these hold, the source of each number, and what its author decided where no number was published. The file
format, version 1, is specified in `devices/cards/README.md`. `Card.text` keeps the whole TOML text, so that a stored
chip can carry its card. A file with `[variants.NAME]` tables describes several cards: each variant's tables replace
those of the same name in the rest of the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices.cards.curves import Curve
from devices.cards.drift import Drift, drift_of
from devices.cards.fields import fields_of, positive, record_of, texts_of, value_of
from devices.cards.parts import Drive, Level, Source, Stuck, Temperature, Times, curve_of, drive_of, levels_of, times_of
from devices.cards.read_noise import ReadNoise, read_noise_of, rereads_of
from devices.cards.relaxation import Relaxation, relaxation_of

__all__ = ["Card"]

FORMAT = 1
MOST_BITS = 16  # a cell of 65,536 levels (our choice)
NEEDED = ("format", "name", "title", "choices", "sources", "level", "time", "programming")
OPTIONAL = (
    "disagreements",
    "drive",
    "drift",
    "relaxation",
    "read_noise",
    "rereads",
    "temperature",
    "stuck",
    "reliable_bits",
)


@dataclass(frozen=True)
class Card:
    """One kind of memory cell: its noise, drift, valid times and sources, as checked values and curves.

    A level x is the cell's conductance, current or resistance on a scale from 0 to 1 (`level` gives the unit and both
    ends). Curves map levels x in [0, 1], float64 of any shape, to levels, or to the dimensionless numbers of drift and
    read noise. Two cards are equal when their content is (`sha256`), whatever file they were loaded from.

    Attributes:
        name: of the card, with its variant: "pcm-zarcone:aligned".
        title: one line about the device.
        variant: the variant taken, "" where the card has none.
        sha256: of the card's content, without comments and layout.
        text: the TOML text that it was read from.
        sources: where each number comes from.
        choices: what the card's author decided, a sentence each.
        disagreements: where published numbers contradict each other, a sentence each.
        level: what levels 0 and 1 are on the device.
        times: when the card holds. `t0_s` is the reference read, in seconds after programming; the `time_s` of a read
            counts from it.
        temperature: how temperature speeds ageing up; None where that is unknown.
        programming_sd: curve of the standard deviation right after programming, in levels.
        written_levels: levels that the cell can be programmed to, rising from 0 to 1; empty where any level can be.
        drive: the write voltage of each level; None where unknown.
        drift: power-law decay; None where there is none.
        relaxation: shift and spread that add to the level with time; None where there is none.
        read_noise: noise of one read; None where it was not measured apart from programming.
        rereads: correlation of two reads of one cell, on a card without `read_noise`; None: repeated reads are equal.
        stuck: shares of cells stuck at level 0 and at level 1.
        reliable_bits: bits a cell, stated by convention on a card without noise; None elsewhere.
    """

    name: str = field(compare=False)
    title: str = field(compare=False)
    variant: str = field(compare=False)
    sha256: str
    text: str = field(compare=False, repr=False)
    sources: tuple[Source, ...] = field(compare=False, repr=False)
    choices: tuple[str, ...] = field(compare=False, repr=False)
    disagreements: tuple[str, ...] = field(compare=False, repr=False)
    level: Level = field(compare=False, repr=False)
    times: Times = field(compare=False)
    temperature: Temperature | None = field(compare=False, repr=False)
    programming_sd: Curve = field(compare=False, repr=False)
    written_levels: tuple[float, ...] = field(compare=False, repr=False)
    drive: Drive | None = field(compare=False, repr=False)
    drift: Drift | None = field(compare=False, repr=False)
    relaxation: Relaxation | None = field(compare=False, repr=False)
    read_noise: ReadNoise | None = field(compare=False, repr=False)
    rereads: float | None = field(compare=False, repr=False)
    stuck: Stuck = field(compare=False, repr=False)
    reliable_bits: float | None = field(compare=False, repr=False)

    @property
    def t0_s(self) -> float:
        """The reference read after programming, in seconds."""
        return self.times.t0_s

    @property
    def max_s(self) -> float:
        """The latest `time_s` at which the card holds, in seconds after the reference read."""
        return self.times.max_s

    @property
    def first_s(self) -> float:
        """The earliest `time_s` at which the card holds: 0, or the first of `times.only_s`."""
        return self.times.only_s[0] if self.times.only_s else 0.0

    @classmethod
    def from_text(cls, text: str, variant: str = "") -> Card:
        """Read a card from its TOML text; `variant` "" takes the card's default variant.

        Raises:
            ValueError: the text is no TOML, a field is missing, unknown or out of its range.

        >>> from devices import load_card
        >>> card = load_card("pcm-zarcone:aligned")
        >>> Card.from_text(card.text, card.variant) == card
        True
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"card is not TOML: {error}: correct it there") from None
        resolved, chosen = _resolve(content, variant)
        name = resolved["name"]
        try:
            return cls(**_parts(resolved), variant=chosen, text=text)
        except ValueError as error:
            raise ValueError(f"card '{name}': {error}") from None

    def check_time(self, time_s: float) -> float:
        """A read time in seconds as float; ValueError outside the times at which the card holds."""
        return self.times.check(self.name, time_s)

    def equivalent_time(self, time_s: float, temperature_k: float) -> float:
        """The time at the card's reference temperature that ages cells as much as `time_s` seconds at `temperature_k`.

        Arrhenius: time_s · exp(Ea/k (1/T_ref - 1/T)). The result is what `read` and `response` take as time_s.

        Raises:
            ValueError: a card without an activation energy, or a temperature outside its range.

        >>> from devices import load_card
        >>> f"{load_card('rram-radar').equivalent_time(5.8e5, 373.0):.3g}"
        '1.09e+07'
        """
        law = self.temperature
        if law is None:
            raise ValueError(
                f"card '{self.name}' says no activation energy, so no time at {temperature_k!r} K: "
                "leave temperature_k out or take a card with a [temperature] table"
            )
        value = float(temperature_k) if isinstance(temperature_k, (int, float, np.number)) else math.nan
        if not law.min_k <= value <= law.max_k:
            raise ValueError(
                f"card '{self.name}' holds from {law.min_k:g} to {law.max_k:g} K, not at {temperature_k!r} K: "
                "keep the cells within that range"
            )
        return float(time_s) * law.acceleration(value)

    def drive_for(self, levels: ArrayLike) -> NDArray[np.float64]:
        """The write voltage (or other drive, in `drive.unit`) that programs each level on average, any shape.

        >>> from devices import load_card
        >>> float(load_card("pcm-zarcone").drive_for(1.0))
        1.25
        """
        if self.drive is None:
            raise ValueError(f"card '{self.name}' says no drive for its levels: take one with a [drive] table")
        x = np.asarray(levels, dtype=np.float64)
        if not ((x >= 0.0) & (x <= 1.0)).all():
            raise ValueError(f"levels must lie in [0, 1], not from {np.min(x):g} to {np.max(x):g}: scale them first")
        at = np.array([self.level.from_physical(mean) for mean in self.drive.means])
        order = np.argsort(at)
        drive: NDArray[np.float64] = np.interp(x, at[order], np.array(self.drive.values)[order])
        return drive


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in place of its own, table by table."""
    merged = dict(base)
    for key, value in over.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if deeper else value
    return merged


def _resolve(content: dict[str, Any], variant: str) -> tuple[dict[str, Any], str]:
    """The content of one variant, its name spelled out, and the variant."""
    variants = content.pop("variants", {})
    default = content.pop("default_variant", "")
    name = content.get("name")
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f'card needs name = "…" without a colon, not {name!r}')
    if not isinstance(variants, dict) or not all(isinstance(item, dict) for item in variants.values()):
        raise ValueError(f"card '{name}': needs variants as tables [variants.NAME], not {variants!r}")
    if default not in [*variants] and (variants or default != ""):
        raise ValueError(f"card '{name}': needs default_variant = one of its variants, not {default!r}")
    chosen = variant or default
    if not chosen:
        return content, ""
    if chosen not in variants:
        raise ValueError(f"card '{name}': no variant '{chosen}': take {' or '.join(variants) or 'none'}")
    return _merged(content, variants[chosen]) | {"name": f"{name}:{chosen}"}, chosen


def _parts(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a card, each checked, from the content of one variant."""
    fields_of(content, "it", NEEDED, OPTIONAL)
    if content["format"] != FORMAT:
        raise ValueError(f"needs format = {FORMAT}, the one this version reads, not {content['format']!r}")
    sources, bits = content["sources"], content.get("reliable_bits")
    if not isinstance(sources, list) or not sources:
        raise ValueError("needs at least one [[sources]] table")
    level, times = record_of(Level, content["level"], "level"), times_of(content["time"])
    programming = fields_of(content["programming"], "programming", ("sd",), ("levels",))
    return {
        "name": content["name"],
        "title": value_of(content["title"], "str", "title"),
        "sha256": hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest(),
        "sources": tuple(record_of(Source, item, f"sources {i + 1}") for i, item in enumerate(sources)),
        "choices": texts_of(content["choices"], "choices"),
        "disagreements": texts_of(content.get("disagreements", []), "disagreements"),
        "level": level,
        "times": times,
        "temperature": record_of(Temperature, content["temperature"], "temperature")
        if "temperature" in content
        else None,
        "programming_sd": curve_of(programming["sd"], "programming.sd", level, in_levels=True),
        "written_levels": levels_of(programming["levels"], level) if "levels" in programming else (),
        "drive": drive_of(content["drive"], level) if "drive" in content else None,
        "stuck": _stuck_of(content.get("stuck", {})),
        "reliable_bits": None if bits is None else _bits_of(bits),
    } | _ageing(content, level, times, programming["sd"])


def _bits_of(value: object) -> float:
    """The convention of a card without noise: bits that a cell is taken to hold."""
    bits = positive(value, "reliable_bits")
    if bits > MOST_BITS:
        raise ValueError(f"reliable_bits needs at most {MOST_BITS}, not {bits:g}: state what a real cell could hold")
    return bits


def _stuck_of(table: object) -> Stuck:
    """The shares of stuck cells, each 0 where the card does not say."""
    return record_of(Stuck, {"low": 0.0, "high": 0.0} | fields_of(table, "stuck", (), ("low", "high")), "stuck")


def _ageing(content: dict[str, Any], level: Level, times: Times, programming_sd: object) -> dict[str, Any]:
    """What happens to a level after programming: the parts of the card about drift, relaxation and reads."""
    sd = curve_of(programming_sd, "programming.sd", level, in_levels=True)
    parts: dict[str, Any] = {"drift": None, "relaxation": None, "read_noise": None, "rereads": None}
    if "drift" in content:
        parts["drift"] = drift_of(content["drift"], level, times.t0_s)
    if "relaxation" in content:
        parts["relaxation"] = relaxation_of(content["relaxation"], level, times, sd)
    if "read_noise" in content:
        parts["read_noise"] = read_noise_of(content["read_noise"], level, times.t0_s)
    if "rereads" in content:
        parts["rereads"] = rereads_of(
            content["rereads"],
            clamped=level.clamp_at_0,
            changing="drift" in content or "relaxation" in content,
            noisy="read_noise" in content,
        )
    return parts

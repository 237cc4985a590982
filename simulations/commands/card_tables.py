"""What `physcomp card list`, `show` and `check` print: tables that fit 80 columns, and lines."""

from collections.abc import Iterator

from rich import box
from rich.table import Table

import devices

SHOWN_LEVELS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
PROGRAMMING = "programming noise alone"
SPANS = ((31536000.0, "year"), (86400.0, "day"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def seconds(time_s: float) -> str:
    """A time in the largest unit that it is a whole number of, at most 999 of them.

    >>> seconds(172800.0), seconds(3600.0), seconds(3e7), seconds(0.0), seconds(float("inf"))
    ('2 days', '1 h', '3e+07 s', '0 s', 'ever')
    """
    if time_s == float("inf"):
        return "ever"
    for length, word in SPANS:
        count = time_s / length
        if count.is_integer() and 1.0 <= count < 1000.0:
            return f"{count:g} {word}{'s' if count > 1.0 and len(word) > 2 and word != 'min' else ''}"
    return f"{time_s:g} s"


def times(card: "devices.Card") -> str:
    """When a card holds, in short words."""
    if card.times.only_s == (0.0,):
        return "at once"
    if card.times.only_s:
        return "at " + ", ".join(seconds(at) for at in card.times.only_s)
    return f"for {seconds(card.max_s)}"


def physics(card: "devices.Card") -> str:
    """What a card's cells do, in a few words."""
    parts = [f"{len(card.written_levels)} levels"] if card.written_levels else []
    parts += ["drift"] if card.drift else []
    parts += ["relaxation"] if card.relaxation else []
    parts += ["read noise"] if card.read_noise else []
    parts += ["temperature"] if card.temperature else []
    parts += ["stuck"] if card.stuck else []
    return ", ".join(parts) or PROGRAMMING


def table_of(*columns: str) -> Table:
    """A table of 80 columns at most, the first column to the left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0, overflow="fold")
    return table


def list_table(cards: "list[devices.Card]") -> Table:
    """A row a card: its name, the bits a cell holds at its first time, when it holds and what its cells do."""
    table = table_of("card", "bits", "holds", "besides programming")
    for column in table.columns[2:]:
        column.justify = "left"
    for card in cards:
        bits = f"{devices.reliable_bits(card, card.first_s):.2f}"
        does = physics(card)
        holds = times(card)
        if not holds.endswith((" ever", " once")):
            holds = holds.removeprefix("for ").removeprefix("at ")
        table.add_row(card.name, bits, holds, "" if does == PROGRAMMING else does)
    return table


def facts(card: "devices.Card") -> Iterator[str]:
    """The lines about a card: level range, times, temperature, stuck cells, sources, choices and disagreements."""
    level = card.level
    yield f"level 0 to 1: {level.quantity} {level.at_0:g} to {level.at_1:g} {level.unit}"
    if card.written_levels:
        yield "levels written: " + ", ".join(f"{x:.3g}" for x in card.written_levels)
    reference = f", counted from {card.t0_s:g} s after programming" if card.t0_s else ""
    yield f"holds {times(card)}{reference}; {physics(card)}"
    law = card.temperature
    if law is None:
        yield "temperature: not known, refused"
    else:
        yield (
            f"temperature: {law.min_k:g} to {law.max_k:g} K, activation energy {law.activation_ev:g} eV; "
            f"times are those at {law.reference_k:g} K"
        )
    yield f"stuck cells: {100 * card.stuck.low:g} % at level 0, {100 * card.stuck.high:g} % at level 1"
    for source in card.sources:
        yield f"source: {source.gives}: {source.paper}, {source.figure}, doi {source.doi}; {source.licence}"
    for line in card.disagreements:
        yield f"published numbers disagree: {line}"
    for choice in card.choices:
        yield f"our choice: {choice}"


def level_table(card: "devices.Card", time_s: float) -> Table:
    """Mean and sd of reads of some levels, in levels and in the card's unit; what writes them, where the card says."""
    response, level = devices.response(card, time_s), card.level
    span = level.at_1 - level.at_0
    drive = [] if card.drive is None else [f"{card.drive.quantity} {card.drive.unit}"]
    table = table_of("level written", "mean read", "sd read", f"mean {level.unit}", f"sd {level.unit}", *drive)
    for x in card.written_levels or SHOWN_LEVELS:
        mean, sd = float(response.mean(x)), float(response.variance(x)) ** 0.5
        physical = (f"{level.at_0 + mean * span:.4g}", f"{sd * abs(span):.3g}")
        applied = [f"{float(card.drive_for(x)):.4g}"] if drive else []
        table.add_row(f"{x:.4g}", f"{mean:.4f}", f"{sd:.4f}", *physical, *applied)
    return table


def check_table(check: "devices.CardCheck") -> Table:
    """The simulated moments of a card against the closed form."""
    table = table_of("time", "levels", "mean off by", "variance off by", "largest sd")
    for row in check.moments:
        errors = (f"{row.mean_errors:.1f} se", f"{row.variance_errors:.1f} se")
        table.add_row(seconds(row.time_s), str(row.levels), *errors, f"{row.largest_sd:.4f}")
    return table

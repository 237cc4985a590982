"""The commands `physcomp card …`: device cards."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

import devices
from devices.files import replacing
from simulations.commands.card_tables import check_table, facts, level_table, list_table, physics, times
from simulations.commands.console import help_of_group, out

cards = typer.Typer(
    callback=help_of_group,
    invoke_without_command=True,
    help="Look at device cards. Example: [cyan]physcomp card list[/]",
)


@cards.command("list", epilog="Example: [cyan]physcomp card list[/]")
def card_list() -> None:
    """List the built-in cards: the bits a cell holds, when a card holds and what its cells do.

    Writes a table to the terminal, and no file. Takes a second.
    """
    out.print(list_table([devices.load_card(name) for name in devices.card_names()]))


@cards.command("show", epilog="Example: [cyan]physcomp card show pcm-nandakumar --time 86400[/]")
def card_show(
    name: Annotated[str, typer.Argument(help="Card: a name of 'physcomp card list', or a TOML file.")],
    time_s: Annotated[float | None, typer.Option("--time", help="Seconds since programming. Default: first.")] = None,
    temperature_k: Annotated[float | None, typer.Option("--temperature", help="Kelvin, where cells are kept.")] = None,
) -> None:
    """Show a card: its sources, our choices, and its levels as they are read at a time.

    Writes to the terminal, and no file. Takes a second.
    """
    card = devices.load_card(name)
    time_s = card.first_s if time_s is None else time_s
    aged_s = card.check_time(time_s if temperature_k is None else card.equivalent_time(time_s, temperature_k))
    out.print(f"[bold]{card.name}[/]: {card.title}", soft_wrap=True, highlight=False)
    for line in facts(card):
        out.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    capacity = devices.capacity(card, aged_s)
    where = "" if temperature_k is None else f" and {temperature_k:g} K"
    out.print(
        f"  {capacity.reliable_bits:.2f} bits a cell held reliably with {capacity.reliable_levels} levels at "
        f"{time_s:g} s{where}; {capacity.analog_bits:.2f} bits at most",
        soft_wrap=True,
        highlight=False,
    )
    out.print(level_table(card, aged_s))


@cards.command("check", epilog="Example: [cyan]physcomp card check my-card.toml[/]")
def card_check(
    name: Annotated[str, typer.Argument(help="Card: a TOML file of your own, or a name of 'physcomp card list'.")],
    seed: Annotated[int, typer.Option(help="Seed of the simulated cells.")] = 0,
) -> None:
    """Check a card: simulated cells against its closed form, and what is missing.

    Writes to the terminal, and no file; exit code 1 says that there are problems. Takes some seconds.
    """
    card = devices.load_card(name)
    check = devices.check_card(card, seed=seed)
    level = card.level
    out.print(f"[bold]{card.name}[/]: {card.title}", soft_wrap=True, highlight=False)
    holds = f"{level.quantity} {level.at_0:g} to {level.at_1:g} {level.unit}, {times(card)}: {physics(card)}"
    out.print(f"  {holds}", soft_wrap=True, highlight=False)
    out.print(check_table(check))
    for kind, lines in (("problem", check.problems), ("note", check.notes)):
        for line in lines:
            out.print(f"{kind}: {line}", soft_wrap=True, highlight=False, markup=False)
    if check.problems:
        raise typer.Exit(1)
    out.print("sound: simulated moments are those of the closed form", highlight=False)


@cards.command("fit", epilog="Example: [cyan]physcomp card fit measurements.csv --out my-card.toml --figure fit.png[/]")
def card_fit(
    measurements: Annotated[Path, typer.Argument(help="CSV or HDF5: target or voltage, read; time_s, device, cycle.")],
    card: Annotated[Path, typer.Option("--out", help="Where the card goes, a .toml file.")],
    figure: Annotated[Path | None, typer.Option(help="Where a figure of the fit goes (.png, .svg or .pdf).")] = None,
    name: Annotated[str, typer.Option(help="Name of the card. Default: that of its file.")] = "",
    title: Annotated[str, typer.Option(help="Title of the card.")] = "",
    quantity: Annotated[str, typer.Option(help="What is read.")] = "conductance",
    unit: Annotated[str, typer.Option(help="Unit of the reads and targets.")] = "µS",
    drive_quantity: Annotated[str, typer.Option(help="What is applied.")] = "write voltage",
    drive_unit: Annotated[str, typer.Option(help="Unit of what is applied.")] = "V",
    source: Annotated[str, typer.Option(help="Where the measurements come from, as on the card.")] = "",
    doi: Annotated[str, typer.Option(help="DOI of the source.")] = "none",
    licence: Annotated[str, typer.Option(help="Licence of the measurements.")] = "not stated",
    log10: Annotated[bool, typer.Option("--log10", help="Fit log10 of the reads (and targets).")] = False,
    curve: Annotated[str, typer.Option(help="Mean response: smooth, or isotonic with straight lines.")] = "smooth",
    monotone_range: Annotated[bool, typer.Option(help="Cut the card to its monotone range, or refuse.")] = True,
    clamp: Annotated[bool, typer.Option("--clamp", help="No cell goes below level 0.")] = False,
    level_0: Annotated[float | None, typer.Option("--level-0", help="Value of level 0, in the unit.")] = None,
    t0_s: Annotated[float | None, typer.Option("--t0", help="Seconds from write to read, without time_s.")] = None,
    t_read_s: Annotated[float, typer.Option("--t-read", help="Duration of one read, in seconds.")] = 250e-9,
    max_s: Annotated[float | None, typer.Option("--max-time", help="Until when the card holds, in seconds.")] = None,
    least: Annotated[int, typer.Option("--least-writes", help="Writes that every level needs.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the simulated p value.")] = 0,
) -> None:
    """Make a card of measurements of your own device, with a report of how well it fits.

    Writes the card (TOML) and, if asked, a figure of the fit. Takes some seconds.
    """
    if card.suffix != ".toml":
        raise ValueError(f"--out '{card}' needs a name that ends in .toml, so that it can be loaded: correct the name")
    read = devices.read_measurements(measurements)
    labels = devices.CardLabels(title, quantity, unit, drive_quantity, drive_unit, source, doi, licence)
    options = devices.FitOptions(
        curve=curve,
        monotone_range=monotone_range,
        at_0=level_0,
        clamp_at_0=clamp,
        t0_s=t0_s,
        t_read_s=t_read_s,
        max_s=max_s,
        least_writes=least,
        seed=seed,
    )
    fit = devices.fit_card(read.in_log10() if log10 else read, name=name or card.stem, labels=labels, options=options)
    if figure is not None:
        from devices.fitting.figure import draw_fit  # matplotlib only where a figure is wanted

        draw_fit(fit, figure)
    with replacing(card) as temporary:
        temporary.write_text(fit.text, "utf-8")
    _print_fit(fit)
    wrote = str(card) if figure is None else f"{card}, {figure}"
    out.print(f"wrote {wrote}; physcomp card show {card} shows it", soft_wrap=True, highlight=False)


def _print_fit(fit: "devices.Fit") -> None:
    """The levels as a table, then the report's lines."""
    from devices.fitting.report import plus_minus  # scipy.stats only for those who fit

    drifts = any(level.drift is not None for level in fit.report.levels)
    apart = any(level.device_sd is not None for level in fit.report.levels)
    columns = ["written", "writes", "mean", "sd", "95 % interval"]
    columns += ["sd within a device", "between devices"] if apart else []
    columns += ["drift exponent", "its sd", "read noise q"] if drifts else []
    table = Table(*columns, title=f"{fit.card.level.quantity} in {fit.card.level.unit}")
    for level in fit.report.levels:
        low, high = level.sd.interval()
        row = [f"{level.written:g}", str(level.writes), plus_minus(level.mean, level.mean_error)]
        row += [f"{level.sd.value:.3g}", f"{low:.3g} to {high:.3g}"]
        if apart:
            between = level.device_sd
            row += [plus_minus(level.cycle_sd.value, level.cycle_sd.error)]
            row += ["unknown" if between is None else plus_minus(between.value, between.error)]
        one = level.drift
        if drifts and one is not None:
            known = one.exponent_mean == one.exponent_mean  # not NaN
            row += [plus_minus(one.exponent_mean, one.exponent_mean_error) if known else "too noisy"]
            row += [plus_minus(one.exponent_sd, one.exponent_sd_error) if known else "too noisy"]
            row += [plus_minus(one.q, one.q_error)]
        elif drifts:
            row += ["unknown"] * 3
        table.add_row(*row)
    out.print(table)
    for line in fit.report.lines():
        out.print(line, soft_wrap=True, highlight=False)


KINDS = ("levels", "atlas", "drift", "capacity")
Names = Annotated[list[str] | None, typer.Argument(help="Cards: names of 'physcomp card list', or TOML files.")]
Kelvin = Annotated[str | None, typer.Option("--temperature", help="Kelvin, by commas, for cards that ask for it.")]


@cards.command("plot", epilog="Example: [cyan]physcomp card plot pcm-zarcone pcm-nandakumar --out figures/[/]")
def card_plot(
    names: Names = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the figures.")] = Path("figures"),
    kind: Annotated[str, typer.Option(help="levels, atlas, drift, capacity or all. Default: all of cards named.")] = "",
    time_s: Annotated[float | None, typer.Option("--time", help="Seconds since programming. Default: first.")] = None,
    temperature: Kelvin = None,
) -> None:
    """Draw figures of cards for papers; without names, the noise atlas of all cards.

    Writes each figure as PNG, SVG and PDF to a folder. Takes some seconds a card.
    """
    kind = kind or ("all" if names else "atlas")
    if kind not in (*KINDS, "all"):
        raise ValueError(f"--kind is one of {', '.join(KINDS)}, all, not '{kind}': name one of them")
    chosen = [devices.load_card(name) for name in names or devices.card_names()]
    from devices import figures  # matplotlib only where a figure is wanted
    from devices.figures.times import changes

    paths: list[Path] = []
    if kind in ("levels", "all"):
        paths += figures.level_response(chosen, folder, time_s=time_s)
    if kind in ("atlas", "all"):
        paths += figures.noise_atlas(chosen, folder, time_s=time_s)
    drifting = [card for card in chosen if changes(card)] if kind in ("drift", "all") else []
    if drifting:
        paths += figures.drift_fan(drifting, folder)
    elif kind == "drift":
        raise ValueError(f"no drift to draw: {', '.join(c.name for c in chosen)} read alike at all times; name others")
    if kind in ("capacity", "all"):
        kelvin = _numbers(temperature, "--temperature")
        paths += figures.capacity_against_time(chosen, folder, temperatures_k=kelvin)
        paths += figures.capacity_against_levels(chosen, folder, time_s=time_s)
    for path in paths:
        out.print(str(path), soft_wrap=True, highlight=False)


@cards.command("capacity", epilog="Example: [cyan]physcomp card capacity pcm-nandakumar --time 0,3600,86400[/]")
def card_capacity(
    name: Annotated[str, typer.Argument(help="Card: a name of 'physcomp card list', or a TOML file.")],
    levels: Annotated[str | None, typer.Option(help="Levels written, by commas. Default: 2,4,8,16.")] = None,
    read_levels: Annotated[str | None, typer.Option(help="Levels told apart by a read. Default: as written.")] = None,
    times: Annotated[str | None, typer.Option("--time", help="Seconds since programming, by commas.")] = None,
    temperature: Kelvin = None,
    cells: Annotated[int | None, typer.Option(help="Cells to simulate a level. Default: none, Gaussian reads.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated cells.")] = 0,
    table: Annotated[Path | None, typer.Option("--csv", help="Where the table goes as CSV.")] = None,
    folder: Annotated[Path | None, typer.Option("--figures", help="Folder for figures of bits and errors.")] = None,
) -> None:
    """Count the bits a cell holds, against levels written and read, time and temperature.

    Writes a table to the terminal and, if asked, as CSV and as figures. Takes some seconds.
    """
    card = devices.load_card(name)
    kelvin = _numbers(temperature, "--temperature")
    points = devices.capacity_study(
        card,
        levels_written=_whole_numbers(levels, "--levels"),
        levels_read=_whole_numbers(read_levels, "--read-levels"),
        times_s=_numbers(times, "--time") or [card.first_s],
        temperatures_k=kelvin,
        cells_a_level=cells,
        seed=seed,
    )
    out.print(_capacity_table(card.name, points))
    out.print("bits: levels used as is best; symbol error: hard decisions, levels used equally", highlight=False)
    out.print("bound: Gaussian channel, any level written, any read", highlight=False)
    paths = [] if table is None else [devices.save_points(points, table)]
    if folder is not None:
        from devices import figures  # matplotlib only where a figure is wanted

        paths += figures.capacity_against_time([card], folder, temperatures_k=kelvin)
        paths += figures.capacity_against_levels([card], folder, time_s=points[0].time_s if kelvin is None else None)
    for path in paths:
        out.print(str(path), soft_wrap=True, highlight=False)


def _capacity_table(name: str, points: "tuple[devices.CapacityPoint, ...]") -> Table:
    """A row a point; a line where time or temperature changes. It fits 80 columns."""
    warm = points[0].temperature_k is not None
    table = Table(title=name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("time s", *(["K"] if warm else []), "written", "read", "bits", "equal use", "symbol error", "bound"):
        table.add_column(column, justify="right", no_wrap=True)
    for point, after in zip(points, [*points[1:], points[-1]], strict=True):
        moment = [f"{point.time_s:g}", *([f"{point.temperature_k:g}"] if warm else [])]
        table.add_row(
            *moment,
            str(point.levels_written),
            str(point.levels_read),
            f"{point.bits:.3f}",
            f"{point.uniform_bits:.3f}",
            f"{point.symbol_error:.2g}" if point.symbol_error >= 1e-9 else "< 1e-9",
            f"{point.analog_bits:.3f}",
            end_section=(point.time_s, point.temperature_k) != (after.time_s, after.temperature_k),
        )
    return table


def _numbers(words: str | None, option: str) -> list[float] | None:
    """Numbers separated by commas; None where the option was not given."""
    if words is None:
        return None
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise ValueError(f"{option}: numbers separated by commas, not '{words}': write for example 1,60") from None


def _whole_numbers(words: str | None, option: str) -> list[int] | None:
    numbers = _numbers(words, option)
    if numbers is not None and not all(number.is_integer() for number in numbers):
        raise ValueError(f"{option}: whole numbers separated by commas, not '{words}': write for example 4,8")
    return None if numbers is None else [int(number) for number in numbers]

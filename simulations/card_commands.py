"""The commands `physcomp card …`: device cards."""

from typing import Annotated

import typer
from rich.table import Table

import devices
from simulations.console import out

cards = typer.Typer(no_args_is_help=True, help="Look at device cards. Example: [cyan]physcomp card list[/]")


@cards.command("list", epilog="Example: [cyan]physcomp card list[/]")
def card_list() -> None:
    """The built-in cards, with the bits a cell holds."""
    table = Table("card", "title", "reliable bits a cell", "holds until")
    for name in devices.card_names():
        card = devices.load_card(name)
        table.add_row(name, card.title, f"{devices.reliable_bits(card, 0.0):.2f}", f"{card.max_s:g} s")
    out.print(table)


@cards.command("show", epilog="Example: [cyan]physcomp card show pcm-nandakumar --time 86400[/]")
def card_show(
    name: Annotated[str, typer.Argument(help="Card: a name of 'physcomp card list', or a TOML file.")],
    time_s: Annotated[float, typer.Option("--time", help="Seconds since programming.")] = 0.0,
) -> None:
    """A card's sources, choices of ours, and its levels as read at a time."""
    card = devices.load_card(name)
    out.print(f"[bold]{card.name}[/]: {card.title}", soft_wrap=True)
    for source in card.sources:
        out.print(f"  {source.gives}: {source.paper}, {source.figure}, doi {source.doi}", soft_wrap=True)
    for choice in card.choices:
        out.print(f"  our choice: {choice}", soft_wrap=True)
    unit = f" {card.level.unit}"
    out.print(f"  level 0 to 1: {card.level.quantity} {card.level.at_0:g} to {card.level.at_1:g}{unit}")
    capacity = devices.capacity(card, time_s)
    out.print(
        f"  {capacity.reliable_bits:.2f} bits a cell held reliably with {capacity.reliable_levels} levels at "
        f"{time_s:g} s; {capacity.analog_bits:.2f} bits at most"
    )
    response = devices.response(card, time_s)
    table = Table("level written", "mean read", "sd read")
    for level in (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0):
        table.add_row(
            f"{level:g}",
            f"{float(response.mean(level)):.4f}",
            f"{float(response.variance(level)) ** 0.5:.4f}",
        )
    out.print(table)

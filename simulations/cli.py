"""The command `physcomp`. A wrong input is reported in one line on standard error, with exit code 2."""

import sys
from typing import Any, NoReturn

import typer

from simulations.commands import anneal, choose, finetune, inspect, readback, run, store, train
from simulations.commands.card import cards
from simulations.commands.console import help_of_group


class _OneBorder(typer.Typer):
    """The one place where errors become messages."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().__call__(*args, **{**kwargs, "standalone_mode": False})
            if code == 130:  # typer's code for a KeyboardInterrupt
                _fail("interrupted; what was measured is kept, and the same command resumes", code=130)
            sys.exit(code if isinstance(code, int) else 0)
        except typer.TyperException as error:
            _fail(f"{error.format_message()}; 'physcomp --help' shows what there is")
        except ValueError as error:
            _fail(str(error))
        except MemoryError as error:
            _fail(f"not enough memory ({error}); take fewer samples by --limit, or allow choose less by --memory")
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}; check the path and the space left")


def _fail(message: str, code: int = 2) -> NoReturn:
    print(f"physcomp: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


app = _OneBorder(
    name="physcomp",
    callback=help_of_group,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="How few noisy analog memory cells can a trained network take, and what accuracy is left?",
)
for command, example in (
    (run.demo, run.EXAMPLE_OF_DEMO),
    (run.run, run.EXAMPLE),
    (train.train, train.EXAMPLE),
    (inspect.inspect, inspect.EXAMPLE),
    (choose.choose, choose.EXAMPLE),
    (store.store, store.EXAMPLE),
    (readback.readback, readback.EXAMPLE),
    (finetune.finetune, finetune.EXAMPLE),
    (anneal.anneal, anneal.EXAMPLE),
):
    app.command(epilog=f"Example: [cyan]{example}[/]")(command)
app.add_typer(cards, name="card")


def main() -> None:
    """The entry point of `python -m simulations.cli`."""
    app()


if __name__ == "__main__":
    main()

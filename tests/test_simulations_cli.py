"""The door: what asks for little loads little, so that it is quick; `simulations.bench.door` measures how quick."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from simulations.cli import app

ROOT = Path(__file__).parent.parent
ROOMS = ("devices", "qubo", "physcomp", "simulations")
NUMERICS = {"numpy", "scipy", "torch", "numba", "matplotlib", "h5py", "safetensors"}
OPTIMISERS = {"qubo", "dimod", "dwave", "highspy", "pymoo", "stable_baselines3"}


def loaded(work: str, *arguments: object) -> list[str]:
    """The modules that a fresh interpreter has loaded after some work."""
    text = f"import sys\n{work}\nprint('modules:' + ' '.join(sys.modules))"
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("modules:")[2].split()


COMMANDS = """
from typer.testing import CliRunner
from simulations.cli import app
import json
for words in json.loads(sys.argv[1]):
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
"""


def commands(group: Any, path: str = "physcomp") -> Iterator[str]:
    """Every command of a group, below groups too, as it is called."""
    for name, command in group.commands.items():
        below = f"{path} {name}"
        yield from commands(command, below) if hasattr(command, "commands") else [below]


def of_packages(modules: Iterable[str], packages: set[str]) -> list[str]:
    return [name for name in modules if name.split(".")[0] in packages]


def test_help_of_every_command_loads_no_numerics_and_nothing_heavy_of_the_rooms() -> None:
    paths = [words[1:] for words in (line.split() for line in commands(typer.main.get_command(app)))]
    assert ["card", "list"] in paths
    modules = loaded(COMMANDS, json.dumps([["--help"], *([*words, "--help"] for words in paths)]))
    assert "simulations.commands.card" in modules  # it is these modules that are looked at
    assert of_packages(modules, NUMERICS | OPTIMISERS) == []
    light = ("simulations.cli", "simulations.commands", "simulations.runs", "devices.files")
    assert [name for name in of_packages(modules, set(ROOMS)) if "." in name and not name.startswith(light)] == []


def test_the_list_of_cards_loads_neither_kernels_nor_networks_nor_optimisers() -> None:
    modules = loaded(COMMANDS, json.dumps([["card", "list"]]))
    assert "devices.channel.capacity" in modules
    assert of_packages(modules, {"torch", "numba", "matplotlib", "h5py", "physcomp"} | OPTIMISERS) == []
    assert "devices.cells.kernels" not in modules


def test_reading_a_chip_loads_no_optimiser(tiny_run: Path) -> None:
    modules = loaded("import physcomp; physcomp.load_chip(sys.argv[1]).read_back()", tiny_run / "chip-3.h5")
    assert "physcomp.storage.chip" in modules
    assert of_packages(modules, OPTIMISERS | {"matplotlib"}) == []
    chosen = ("physcomp.choice", "physcomp.training", "physcomp.curvature", "physcomp.compensation")
    assert [name for name in modules if name.startswith(chosen)] == []


def test_the_command_that_reads_a_chip_loads_no_optimiser(tiny_folder: Path, tiny_run: Path) -> None:
    words = ["readback", tiny_run / "chip-3.h5", tiny_folder / "net.toml", "--images", tiny_folder / "images"]
    modules = loaded(COMMANDS, json.dumps([[str(word) for word in words]]))
    assert of_packages(modules, OPTIMISERS | {"matplotlib"}) == []


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_nothing_of_it_until_a_name_is_used(room: str) -> None:
    modules = loaded(f"import {room}")
    assert [name for name in modules if name.startswith(f"{room}.")] == []
    assert of_packages(modules, NUMERICS | OPTIMISERS - {room}) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_room_is_had_by_import_and_by_dir(room: str) -> None:
    work = f"""
import {room}
assert len({room}.__all__) > 5
for name in {room}.__all__:
    assert name in dir({room}), name
    space = {{}}
    exec(f"from {room} import {{name}}", space)
    assert space[name] is getattr({room}, name), name
try:
    {room}.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise AssertionError("a name that is not there was given")
"""
    loaded(work)

"""The command line: help with an example for every command, the whole way from network to accuracy, bad input."""

import dataclasses
import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import devices
import physcomp
from physcomp.networks import plain_training
from physcomp.networks.description import read_description
from physcomp.networks.images import write_idx
from simulations import cli
from simulations.runs.readback import read_back

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
PROMISED = {"demo", "run", "train", "choose", "store", "readback", "card list", "card show"}


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the app, below groups too, with the words that call it."""
    found: Any = group or typer.main.get_command(cli.app)
    for name, command in sorted(found.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = [pytest.param(words, command, id=" ".join(words)) for words, command in commands()]


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulations.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def plain(text: str) -> str:
    """Text without the frames and line breaks of a terminal."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_the_commands_that_are_promised_are_there() -> None:
    assert {" ".join(words) for words, _ in commands()} >= PROMISED


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], command: Any) -> None:
    shown = CliRunner().invoke(cli.app, [*words, "--help"])
    assert shown.exit_code == 0
    text = plain(shown.output)
    assert f"Example: physcomp {' '.join(words)}" in text
    assert "Usage:" in text
    assert "Writes" in text  # and where
    assert "Takes" in text  # how long
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, f"{parameter.name} is not explained"


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_example_is_a_command_line_that_parses(words: tuple[str, ...], command: Any) -> None:
    (example,) = re.findall(r"\[cyan\](.*?)\[/\]", command.epilog)
    given = shlex.split(example)
    assert given[: 1 + len(words)] == ["physcomp", *words]
    command.make_context("physcomp", given[1 + len(words) :])  # raises where an option or argument is wrong


@pytest.mark.parametrize("words", [(), ("card",)])
def test_a_group_alone_shows_its_commands(words: tuple[str, ...], command: Run) -> None:
    code, printed, said = command(*words)
    assert (code, said) == (2, "")
    for found, _ in commands():
        if found[: len(words)] == words:
            assert found[len(words)] in printed


def test_choose_store_and_readback_lead_from_a_network_to_its_accuracy(
    tiny_folder: Path, tmp_path: Path, command: Run
) -> None:
    network, images = tiny_folder / "net.toml", tiny_folder / "images"
    plan, chip = tmp_path / "plan.json", tmp_path / "chip.h5"
    code, printed, said = command(
        "choose", network, "--images", images, "--card", "pcm-nandakumar", "--time", 3600,
        "--budget", 1.5, "--out", plan, "--seed", 3, "--quiet",
    )  # fmt: skip
    assert (code, said) == (0, "")
    chosen = physcomp.Plan.load(plan)
    assert chosen.budget == 1.5
    assert (chosen.card, chosen.read_time_s, chosen.method) == ("pcm-nandakumar", 3600.0, "joint")
    assert f"{chosen.cells_per_weight:.4f} cells/weight of 1.5 allowed" in printed
    assert f"{chosen.proof.heldout_loss:.4f}" in printed

    code, printed, said = command("store", network, plan, "--seed", 7, "--out", chip)
    assert (code, said) == (0, "")
    stored = physcomp.load_chip(chip)
    assert stored.seed == 7
    assert f"{stored.cells.levels.size:,} analog cells on pcm-nandakumar, {len(stored.bits):,} bits" in plain(printed)

    code, printed, said = command("readback", chip, network, "--images", images, "--times", "60,3600", "--reads", 2)
    assert (code, said) == (0, "")
    test = physcomp.load_images(images, "t10k")
    trials = read_back(
        stored, test.inputs, test.labels, network=physcomp.load_network(network), trials=2, times_s=[60, 3600]
    )
    lines = [plain(line) for line in printed.splitlines()]
    for time_s in (60, 3600):
        mean = sum(trial.accuracy for trial in trials if trial.time_s == time_s) / 2
        assert any(re.match(rf"{time_s} .*{100 * mean:.2f} ± ", line) for line in lines)
    assert not list(tmp_path.glob("*.tmp"))
    assert "Digital bits" not in printed  # they were counted for the latest of these times

    code, printed, said = command("readback", chip, network, "--images", images, "--times", "60,86400")
    assert (code, said) == (0, "")
    counted, held = (devices.reliable_bits(devices.load_card("pcm-nandakumar"), time_s) for time_s in (3600, 86400))
    told = f"counted at {counted:.3f} a cell; after 86400 s a cell holds {held:.3f}: choose again with --time 86400"
    assert told in " ".join(plain(printed).split())


def test_run_prints_the_table_the_findings_and_where_things_lie(tiny_run: Path) -> None:
    printed = (tiny_run / "printed.txt").read_text()
    summary = json.loads((tiny_run / "summary.json").read_text())
    for card in summary["cards"]:
        for result in card["results"]:
            accuracy = f"{100 * result['accuracy_mean']:.2f} ± {100 * result['accuracy_sd']:.2f}"
            line = [result["method"], f"{result['cells_per_weight']:.3f}", accuracy, f"{result['loss_mean']:.4f}"]
            assert re.search(r"\s+".join(map(re.escape, line)), printed)
        assert f"rank correlation {card['rank_correlation']:.3f}" in printed
    assert "on pcm-nandakumar, read 3600 s after programming" in printed
    assert f"In {tiny_run}/:" in printed
    assert "4 plan-*.json, 4 chip-*.h5" in printed


def test_a_second_run_prints_the_same_and_needs_no_measurement(
    tiny_run: Path, tiny_folder: Path, tmp_path: Path, command: Run
) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    code, printed, said = command("run", tiny_folder / "study.toml", "--out", copy, "--quiet")
    assert (code, said) == (0, "")
    assert printed.replace(str(copy), str(tiny_run)) == (tiny_run / "printed.txt").read_text()


def test_without_quiet_a_run_says_on_standard_error_what_it_does(
    tiny_run: Path, tiny_folder: Path, tmp_path: Path, command: Run
) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    (copy / "plans" / "pcm-zarcone.json").unlink()
    code, _, said = command("run", tiny_folder / "study.toml", "--out", copy)
    assert code == 0
    for step in ("compiling kernels", "measuring what each code does", "choosing codes for pcm-zarcone", "figure"):
        assert step in said


def test_results_go_to_a_folder_named_after_the_study_unless_told_otherwise(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(name='"small"', cards='[{card = "ideal"}]', budgets="[2.0]", uniform="[]")
    code, _, _ = command("run", study, "--quiet")
    assert code == 0
    assert (tmp_path / "runs" / "small" / "summary.json").exists()


def test_demo_runs_the_shipped_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Run) -> None:
    called: list[tuple[object, ...]] = []
    monkeypatch.setattr("simulations.commands.run._run", lambda *arguments: called.append(arguments))
    assert command("demo", "--out", tmp_path, "--fresh", "--quiet")[0] == 0
    assert called == [(ROOT / "simulations" / "studies" / "demo.toml", tmp_path, True, True)]


@pytest.fixture(params=["plain", "gzipped"])
def packed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "gzipped")


@pytest.mark.parametrize("layout", ["", "fashion-mnist", "FashionMNIST/raw"])  # Debian's, above it, torchvision's
def test_train_finds_the_full_set_and_keeps_the_last_images_back(
    tiny_folder: Path, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch, layout: str, packed: bool
) -> None:
    root = tmp_path / "sets"
    (root / layout).mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            source = tiny_folder / "images" / f"{part}-{kind}-ubyte.gz"
            content = source.read_bytes() if packed else gzip.decompress(source.read_bytes())
            (root / layout / (source.name if packed else source.stem)).write_bytes(content)
    monkeypatch.setattr("physcomp.networks.plain_training.HELD_BACK", 100)
    shutil.copy(tiny_folder / "net.toml", tmp_path / "net.toml")
    code, printed, said = command("train", tmp_path / "net.toml", "--images", root, "--epochs", 1, "--quiet")
    assert (code, said) == (0, "")
    assert "test samples: accuracy" in printed
    assert "(200 samples)" in printed
    network = physcomp.load_network(tmp_path / "net.toml")
    described = read_description(tmp_path / "net.toml")
    described = dataclasses.replace(described, recipe={**described.recipe, "epochs": 1})
    kept = physcomp.load_images(tiny_folder / "images", "train")[:300]
    expected = physcomp.prepare(plain_training.train(described, kept).module)
    assert network.sha256 == physcomp.Network("stripes", expected, ()).sha256


def test_train_writes_where_it_is_told(tiny_folder: Path, tmp_path: Path, command: Run,
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("physcomp.networks.plain_training.HELD_BACK", 100)
    before = (tiny_folder / "net.safetensors").read_bytes()
    target = tmp_path / "other.safetensors"
    code, _, said = command(
        "train", tiny_folder / "net.toml", "--images", tiny_folder / "images", "--out", target, "--epochs", 1
    )
    assert code == 0
    assert "training stripes" in said
    assert target.exists()
    assert (tiny_folder / "net.safetensors").read_bytes() == before


def one_line(code: int, _printed: str, said: str) -> str:
    """The one line of standard error that bad input is answered with."""
    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith("physcomp: ")
    assert "Traceback" not in said
    return said


BAD = {
    "a missing study": ("run none.toml", "none.toml: no such study"),
    "a study that is a folder": ("run {folder}", "{folder}"),
    "a description in place of a study": ("run {net}", "lacks kind"),
    "a missing description": ("store none.toml {plan} --out x.h5", "none.toml: no such description"),
    "a missing plan": ("store {net} none.json --out x.h5", "none.json: no such plan"),
    "a plan of another network": ("store {shipped} {plan} --out x.h5", "made for network stripes"),
    "a study in place of a plan": ("store {net} {study} --out x.h5", "not valid JSON"),
    "another card than the plan's": ("store {net} {plan} --card ideal --out x.h5", "made for card"),
    "an output folder that is not there": ("store {net} {plan} --out none/x.h5", "none/x.h5"),
    "a missing chip": ("readback none.h5 {net} --images {images}", "none.h5: no such chip"),
    "a plan in place of a chip": ("readback {plan} {net} --images {images}", "not a readable HDF5 file"),
    "a chip of another network": ("readback {chip} {shipped} --images {data}", "fashion-cnn"),
    "images of another size": ("readback {chip} {net} --images {data}", "28"),
    "a folder without images": ("readback {chip} {net} --images {runs}", "lies in no folder of a class"),
    "an unknown part": ("readback {chip} {net} --images {images} --part best", "no part best"),
    "times that are no numbers": ("readback {chip} {net} --images {images} --times soon", "got 'soon'"),
    "a time outside the card's range": ("readback {chip} {net} --images {images} --times 1e9", "not at 1000000000.0"),
    "no reads": ("readback {chip} {net} --images {images} --reads 0", "at least one trial, got 0"),
    "an unknown card": ("card show pcm-nandakuma", "pcm-nandakumar"),
    "a card at a time it does not hold": ("card show pcm-zarcone --time 86400", "86400"),
    "a missing card file": ("card show mine.toml", "mine.toml"),
    "an infeasible budget": (
        "choose {net} --images {images} --card ideal --budget 0.01 --out x --quiet",
        "at least 0.",
    ),
    "a budget that is no number": ("choose {net} --images {images} --card ideal --budget nan --out x --quiet", "nan"),
    "an unknown solver": (
        "choose {net} --images {images} --card ideal --budget 2 --out x --solver magic --quiet",
        "annealer",
    ),
    "too few images to train on": (
        "train {net} --images {images} --out x.safetensors --quiet",
        "400 images, more than 4000",
    ),
    "no epochs": ("train {net} --images {many} --out x.safetensors --epochs 0 --quiet", "epochs"),
    "a word for a number": ("choose {net} --images {images} --card ideal --budget much --out x", "--budget"),
    "a missing option": ("choose {net} --images {images} --card ideal --out x", "--budget"),
    "an unknown option": ("card list --colour", "--colour"),
    "an unknown command": ("chose {net}", "chose"),
}


@pytest.fixture(scope="session")
def names(tiny_folder: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    many = tmp_path_factory.mktemp("many")
    for part, count in (("train", 4001), ("t10k", 2)):
        write_idx(many / f"{part}-images-idx3-ubyte.gz", np.zeros((count, 8, 8), np.uint8))
        write_idx(many / f"{part}-labels-idx1-ubyte.gz", np.zeros(count, np.uint8))
    return {
        "folder": tiny_folder,
        "net": tiny_folder / "net.toml",
        "study": tiny_folder / "study.toml",
        "images": tiny_folder / "images",
        "plan": tiny_run / "plan-3.json",
        "chip": tiny_run / "chip-3.h5",
        "runs": tiny_run,
        "many": many,
        "shipped": ROOT / "data" / "fashion-cnn.toml",
        "data": ROOT / "data" / "fashion-mnist",
    }


@pytest.mark.parametrize(("line", "told"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_answered_with_one_line_and_exit_code_2(
    line: str,
    told: str,
    names: dict[str, Path],
    command: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = one_line(*command(*line.format(**names).split()))
    assert told.format(**names) in said
    assert list(tmp_path.iterdir()) == []  # nothing half-made is left


def test_labels_that_the_network_does_not_know_are_refused(
    names: dict[str, Path], tmp_path: Path, command: Run
) -> None:
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((2, 8, 8), np.uint8))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 7], np.uint8))
    said = one_line(*command("readback", names["chip"], names["net"], "--images", tmp_path))
    assert "7" in said


def test_weights_that_are_nan_are_refused(names: dict[str, Path], tmp_path: Path, command: Run) -> None:
    shutil.copy(names["net"], tmp_path / "net.toml")
    weights = load_file(names["folder"] / "net.safetensors")
    weights["1.weight"][0] = float("nan")
    save_file(weights, tmp_path / "net.safetensors")
    said = one_line(*command("store", tmp_path / "net.toml", names["plan"], "--out", tmp_path / "x.h5"))
    assert "'1.weight' holds NaN" in said


def test_the_results_of_another_study_are_refused(write_study: Write, tiny_run: Path, command: Run) -> None:
    said = one_line(*command("run", write_study(seed="6"), "--out", tiny_run, "--quiet"))
    assert "--fresh" in said


def test_an_interrupted_command_says_that_it_resumes(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.kinds.run_study", interrupt)
    code, _, said = command("run", tiny_folder / "study.toml", "--quiet")
    assert code == 130
    assert "resumes" in said
    assert "Traceback" not in said


def test_as_a_process_it_lists_cards_and_refuses_in_one_line() -> None:
    listed = in_a_process("card", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "pcm-nandakumar" in listed.stdout
    refused = in_a_process("run", "none.toml")
    one_line(refused.returncode, refused.stdout, refused.stderr)
    assert "none.toml: no such study" in refused.stderr

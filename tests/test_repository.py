"""The repository as a whole: who may import whom, what is pinned, what the README and the data promise."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path
from typing import Any

import pytest
import typer.main

import physcomp
from simulations.cli import app

ROOT = Path(__file__).parent.parent
# The import rule: the rooms each room may use.
ALLOWED: dict[str, set[str]] = {
    "devices": set(),
    "qubo": set(),
    "physcomp": {"devices", "qubo"},
    "simulations": {"devices", "qubo", "physcomp"},
}
FILES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The layout: the folders and files of each room, each of which may import only those before it.
ORDER: dict[str, tuple[str, ...]] = {
    "devices": ("files", "cards", "cells", "channel", "check", "figures", "fitting"),
    "qubo": (
        "solution", "checks", "setups", "selection", "families", "formats", "magnitude", "search", "bounds", "files",
        "solvers", "dwave",
    ),
    "physcomp": (
        "threads", "codes", "networks", "curvature", "compensation", "storage", "choice", "training",
    ),
    "simulations": ("networks", "runs", "comparison", "calibration", "annealing", "kinds", "commands", "bench", "cli"),
}  # fmt: skip
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
# A plan is stored and read back without whatever chose it.
FREE_OF_OPTIMISERS = "physcomp.storage"
OPTIMISERS = ("physcomp.choice", "physcomp.curvature", "physcomp.compensation", "physcomp.training", "qubo")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules a file imports, in functions and under conditions too; relative imports begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def dotted_names(node: ast.AST) -> Iterator[str]:
    """What an import statement fetches, by its whole name: `from a import b` fetches a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(tree: ast.AST) -> Iterator[str]:
    """The modules of ours that a file imports, in functions too; a name from a package is the module it may be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from (name for name in (full, str(node.module)) if name in MODULES)


def circles(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph, if there is one, as the names along it."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def commands(group: Any, path: str = "physcomp") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_the_rooms_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for module in imported(ast.parse(path.read_text())):
        top = module.split(".")[0]
        assert top, f"{path}: imports are absolute, got '{module}'"
        assert top not in ALLOWED or top == room or top in ALLOWED[room], f"{room} may not import {module}"


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=name_of)
def test_nothing_private_of_another_package_is_imported(path: Path) -> None:
    found = [
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in dotted_names(node)
        if name.split(".")[0] not in {*ALLOWED, "__future__"}
    ]
    assert [name for name in found if any(part.startswith("_") for part in name.split("."))] == []


def test_every_folder_and_file_of_a_room_has_its_place_in_the_order() -> None:
    for room, order in ORDER.items():
        found = {path.name for path in (ROOT / room).iterdir() if path.is_dir() and (path / "__init__.py").exists()}
        found |= {path.stem for path in (ROOT / room).glob("*.py") if path.stem not in ("__init__", "__main__")}
        assert found == set(order), f"{room}: not in the order of the rooms, or no longer there"


@pytest.mark.parametrize("name", MODULES)
def test_no_arrow_of_a_room_points_upward(name: str) -> None:
    room, *rest = name.split(".")
    if not rest:
        return  # the room's face shows what all its folders hold
    order = ORDER[room]
    for module in arrows(ast.parse(MODULES[name].read_text())):
        if module.split(".")[0] != room:
            continue
        assert module != room, f"{name} imports the face of its own room; import the module that holds the name"
        assert order.index(module.split(".")[1]) <= order.index(rest[0]), f"{name} may not import {module}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {}
    for name, path in MODULES.items():
        graph[name] = {module for module in arrows(ast.parse(path.read_text())) if module != name}
        # A name that a package's face gives is no arrow to the package, or every folder would be a circle.
        graph[name] -= {module for module in graph[name] if name.startswith(f"{module}.")}
    assert circles(graph) == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []


def test_storing_and_reading_back_need_no_optimiser() -> None:
    """Also of what storage imports, whatever that imports: `physcomp.codes` and `physcomp.networks`."""
    graph = {name: set(arrows(ast.parse(path.read_text()))) for name, path in MODULES.items()}
    seen, left = set[str](), [name for name in MODULES if name.startswith(FREE_OF_OPTIMISERS)]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left.extend(graph[name] - {"physcomp"})
    assert [name for name in sorted(seen) if name.startswith(OPTIMISERS)] == []


def test_the_import_rule_is_about_all_packages_of_the_wheel() -> None:
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ALLOWED)
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_each_package_says_that_it_is_typed(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()
    assert (ROOT / room / "__init__.py").exists()


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=name_of)
def test_files_stay_short_enough_to_be_read(path: Path) -> None:
    # numba's cache watches only the file of the function called, so kernels that call each other share one file.
    assert path.read_text().count("\n") < (520 if path.name == "kernels.py" else 400)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_of_others_is_unpickled_or_executed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    assert not unsafe & {module.split(".")[0] for module in imported(tree)}
    for name, call in called(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name.endswith("torch.load"):
            assert given.get("weights_only") == "True"
        if name.endswith(("np.load", "numpy.load")):
            assert given.get("allow_pickle", "False") == "False"
        assert name not in {"eval", "exec"}


@pytest.mark.parametrize("room", ["tests", "data"])
def test_tests_and_data_are_no_packages(room: str) -> None:
    assert not list((ROOT / room).rglob("__init__.py"))


def normalised(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines)
    found = [line.split("==") for line in lines]
    assert len({normalised(name) for name, _ in found}) == len(found), "pinned twice"
    return {normalised(name): pinned for name, pinned in found}


def test_every_dependency_is_pinned_to_a_version_it_allows() -> None:
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), PROJECT["build-system"]["requires"]]
    stated = [requirement for part in lists for requirement in part]
    assert len(stated) > 10
    for requirement in stated:
        name, _, least = requirement.partition(">=")
        assert normalised(name) in pins(), f"{name} is not pinned"
        pinned = [int(number) for number in re.findall(r"\d+", pins()[normalised(name)])]
        assert pinned >= [int(number) for number in least.split(".") if number]


def names(requirements: Iterable[str]) -> set[str]:
    """The projects that requirements name, but for those that only an extra asks for."""
    return {normalised(re.split(r"[^\w.-]", r)[0]) for r in requirements if "extra ==" not in r}


RUN_TIME = names(PROJECT["project"]["dependencies"])
DEVELOPMENT = names(PROJECT["project"]["optional-dependencies"]["dev"])
# Modules that are not called like the stated dependency which they come with.
COMES_WITH = dict.fromkeys(["dwave", "hybrid", "minorminer", "networkx", "requests"], "dwave-ocean-sdk")
COMES_WITH |= {"PIL": "pillow"}


def others(paths: Iterable[Path]) -> set[str]:
    """The packages of others, by module, that files import."""
    modules = {module.split(".")[0] for path in paths for module in imported(ast.parse(path.read_text()))}
    return modules - {*ALLOWED, *sys.stdlib_module_names, *(path.stem for path in TESTS)}


def stated(module: str) -> str:
    return COMES_WITH.get(module) or normalised(module)


def test_dependencies_are_what_the_packages_import_and_nothing_else() -> None:
    assert {stated(module) for module in others(FILES)} == RUN_TIME


def test_what_only_tests_import_is_a_dependency_of_development() -> None:
    assert not RUN_TIME & DEVELOPMENT
    assert {stated(module) for module in others(TESTS)} - RUN_TIME == DEVELOPMENT - {"mypy", "ruff"}


def test_modules_come_with_the_dependency_that_is_named() -> None:
    projects = {module: {normalised(name) for name in found} for module, found in packages_distributions().items()}
    installed = set[str]().union(*projects.values())
    for module, dependency in COMES_WITH.items():
        brought = new = {dependency}
        while new:
            new = set[str]().union(*(names(requires(name) or ()) for name in new & {*installed, dependency})) - brought
            brought = brought | new
        assert projects[module] & brought, f"{module} does not come with {dependency}"


def test_every_dependency_states_its_least_version_as_the_oldest_environment_reads_it() -> None:
    project = PROJECT["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert [requirement for requirement in stated if not re.fullmatch(r"[\w-]+>=[\d.]+", requirement)] == []


def test_the_tested_versions_are_pinned() -> None:
    tested = {"torch": "2.13.0", "dwave-ocean-sdk": "9.5.0", "dimod": "0.12.22"}
    assert {name: pins()[name] for name in tested} == tested


def test_the_version_is_the_installed_one() -> None:
    assert PROJECT["project"]["version"] == version("physcomp")


def test_the_package_cannot_be_uploaded_by_mistake() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_what_every_user_looks_for_is_there() -> None:
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".ci/run", "data/fashion-mnist/LICENSE"):
        assert (ROOT / name).is_file(), name
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_the_readme_mentions_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in commands(typer.main.get_command(app)) if name not in readme] == []


def targets() -> set[str]:
    (line,) = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(line.split()) - {"install"}  # a step of the others


def test_the_makefile_has_the_promised_targets() -> None:
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets() >= {"demo", "test", "test-all", "test-oldest", "bench", "lint"}
    assert targets() <= set(rules)


def test_the_readme_mentions_every_make_target() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in sorted(targets()) if not re.search(rf"\bmake {name}(?![\w-])", readme)] == []


def test_what_make_runs_is_there() -> None:
    modules = re.findall(r"-m ((?:physcomp|devices|qubo|simulations)[\w.]*)", (ROOT / "Makefile").read_text())
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_paths_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\(([^)#:\s]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_no_module_prints_or_warns_when_it_is_imported() -> None:
    modules = [name_of(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in FILES]
    assert len(modules) > 30
    text = f"import importlib\nfor name in {modules}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_embedded_network_has_a_hundred_thousand_weights_and_reaches_its_accuracy(data_dir: Path) -> None:
    network = physcomp.load_network(data_dir / "fashion-cnn.toml")
    weights = sum(layer.rows.size for layer in physcomp.layers_of(network.module))
    assert weights == 97_552  # as data/README.md says
    test = physcomp.load_images(data_dir / "fashion-mnist", "t10k")
    assert len(test) == 10_000
    assert physcomp.evaluate(network.module, test).accuracy >= 0.915  # the least that was asked for


def test_the_embedded_parts_are_whole_balanced_and_share_no_image(data_dir: Path) -> None:
    seen: list[set[bytes]] = []
    for part, count in (("calibration", 2000), ("heldout", 2000), ("t10k", 10_000)):
        images = physcomp.load_images(data_dir / "fashion-mnist", part)
        assert images.inputs.shape == (count, 1, 28, 28)
        counts = images.labels.bincount(minlength=10)
        # Ten classes by chance: a count's sd is √(0.09·n), and five of them leave 6e-7 a class.
        assert len(counts) == 10
        assert int((counts - count / 10).abs().max()) < 5 * (0.09 * count) ** 0.5
        seen.append({image.numpy().tobytes() for image in images.inputs})
    calibration, heldout, test = seen
    assert not calibration & heldout
    assert not calibration & test
    assert not heldout & test

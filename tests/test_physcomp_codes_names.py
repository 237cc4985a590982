"""Codes speak for themselves: nothing outside of `physcomp/codes` asks which class or name a code has."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from physcomp.codes import SYNTAX, Code, parse

ROOT = Path(__file__).parent.parent
CODES = ROOT / "physcomp" / "codes"
FILES = [
    path
    for room in ("devices", "qubo", "physcomp", "simulations")
    for path in sorted((ROOT / room).rglob("*.py"))
    if CODES not in path.parents
]


def classes(kind: Any) -> set[str]:
    return {kind.__name__}.union(*(classes(child) for child in kind.__subclasses__()))


KINDS = classes(Code) - {"Code"}
ASKING = {"startswith", "endswith", "removeprefix", "removesuffix", "match", "fullmatch"}


def names_a_code(node: ast.AST) -> bool:
    """Whether a text is the name of a code or begins one: `pruned`, `analog(`, `digital(4)`."""
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return text in SYNTAX or any(text.startswith((f"{word}(", f"{word}\\(")) for word in SYNTAX)


def mentioned(node: ast.AST) -> set[str]:
    """Every variable and attribute in an expression."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def asks(tree: ast.AST) -> Iterator[str]:
    """Everything in a file that asks for the class or the name of a code."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("physcomp.codes"):
                yield from (f"imports {alias.name}" for alias in names if alias.name in KINDS)
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass")) | ast.Compare() if mentioned(node) & KINDS:
                yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Compare() if "name" in mentioned(node) and any(names_a_code(part) for part in ast.walk(node)):
                yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(attr=attr), args=args) if attr in ASKING:
                if any(names_a_code(arg) for arg in args) and "name" in mentioned(node):
                    yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Subscript(value=ast.Attribute(attr="name"), slice=ast.Slice()):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_outside_of_the_codes_asks_which_code_it_has(path: Path) -> None:
    assert list(asks(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(code, Digital | Sparse)",
        "type(code) is codes.Digital",
        "code.name == 'pruned'",
        "code.name.startswith('analog(')",
        "menu[index].name in ('coded(4)', 'digital(4)')",
        "code.name[6:]",
        "from physcomp.codes.sparse import ZeroFree",
    ],
)
def test_such_a_question_would_be_seen(text: str) -> None:
    assert any(True for _ in asks(ast.parse(text)))


def test_every_file_of_a_code_is_read_by_its_own_word() -> None:
    assert set(SYNTAX) == {
        *("pruned", "float32", "digital", "coded", "stepped", "codebook"),
        *("analog", "hybrid", "sparse", "mixed"),
    }
    examples = {"sparse": "sparse(50,digital(2))", "mixed": "mixed(digital(4),analog(1),25%)", "hybrid": "hybrid(2,1)"}
    for word, syntax in SYNTAX.items():
        assert all(form.split("(")[0] == word for form in syntax.forms)
        plain = word if "(" not in syntax.forms[0] else f"{word}(2)"
        name = examples.get(word, plain)
        assert parse(name).name == name


def test_the_names_that_no_code_has_are_answered_with_every_form() -> None:
    for name in ("pruned(1)", "digital", "analog()", "sparse(50)", "quantum(3)", ""):
        with pytest.raises(ValueError, match=r"^code '") as caught:
            parse(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not a code") as caught:
        parse("quantum(3)")
    assert all(form in str(caught.value) for syntax in SYNTAX.values() for form in syntax.forms)

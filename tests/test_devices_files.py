"""Files that are whole or not there."""

from pathlib import Path

import pytest

from devices.files import replacing


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == tmp_path  # so that moving it is one step
        assert temporary.suffix == ".toml"
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    path.write_text("a long text of before")
    with replacing(str(path)) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "none" / "card.toml"):
            raise AssertionError("not to be reached")

    with pytest.raises(FileNotFoundError, match=r"its folder does not exist: '[^\n]*none/card\.toml'$"):
        write()

"""The claim on a folder: results go on only under the mark of their own study."""

from pathlib import Path
from typing import Any

import pytest

from simulations.runs.claim import LEDGER, MARK, SUMMARY, claim

LEAVES = ("plans/*.json", "chip-*.h5")


def claimed(folder: Path, study: str = "a", *, fresh: bool = False) -> None:
    claim(folder, f"{study}\n", {"study": study}, fresh=fresh, results=LEAVES)


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused, and left as it is."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r".") as caught:
        claimed(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    message = str(caught.value)
    assert "\n" not in message
    assert "--fresh" in message
    assert "--out" in message
    return message


@pytest.mark.parametrize("left", [LEDGER, SUMMARY, "plans/ideal.json", "chip-1.5.h5"])
def test_results_without_the_mark_of_their_study_are_refused(tmp_path: Path, left: str) -> None:
    """Else the plans of one study would count as those of another."""
    (tmp_path / "plans").mkdir()
    (tmp_path / left).write_text("")
    assert refusal(tmp_path).startswith(f"{tmp_path}: holds results ({Path(left).name}) without {MARK}")
    claimed(tmp_path, fresh=True)
    assert not (tmp_path / left).exists()
    claimed(tmp_path)


def test_files_that_are_no_results_leave_a_folder_free(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    claimed(tmp_path)
    assert (tmp_path / MARK).read_text().endswith("a\n")


@pytest.mark.parametrize("kept", range(4))
def test_a_kill_while_results_are_removed_leaves_none_without_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    claimed(tmp_path, "other")
    for name in (LEDGER, SUMMARY, "chip-1.5.h5"):
        (tmp_path / name).write_text("of the other study")
    unlink, left = Path.unlink, [kept]

    def dying(path: Path, **options: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(KeyboardInterrupt):
        claimed(tmp_path, fresh=True)
    monkeypatch.undo()
    assert "another study" in refusal(tmp_path)


def test_a_mark_that_is_no_text_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / MARK).write_bytes(b"\xff\xfe\x00")
    assert refusal(tmp_path).startswith(f"{tmp_path / MARK}: not text")
    claimed(tmp_path, fresh=True)

"""The claim on the folder of a run: one study, one network, one format of files.

The mark is `study.toml`: a line with the format (`ledger.FORMAT`), a line for each fingerprint, `TEXT`, then the study.
A folder without a mark is free; a folder whose mark has other lines is refused.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from devices.files import replacing
from simulations.runs.ledger import FORMAT

MARK, LEDGER, SUMMARY = "study.toml", "trials.csv", "summary.json"
HEAD = f"# physcomp run, format {FORMAT}"
TEXT = "# as it was run:"
OLD = ("experiment.json", "plans.csv", "runs.csv")  # of format 1, as is a mark without the line of the format


def claim(folder: Path, text: str, fingerprints: Mapping[str, str], *, fresh: bool, results: Iterable[str]) -> None:
    """Take the folder for a study: it is empty, holds the same study, or is emptied of another's results.

    Args:
        folder: made if it is not there.
        text: of the study, kept for the reader.
        fingerprints: what must be the same for a run to be resumed, by name.
        fresh: forget what is there.
        results: patterns of what runs of this kind leave beside their ledger and summary.

    Raises:
        ValueError: it holds results of another study, or of another version's format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if fresh:
        for pattern in (MARK, LEDGER, SUMMARY, *OLD, *results):
            for path in folder.glob(pattern):
                path.unlink()
    head = "\n".join([HEAD, *(f"# {name} {value}" for name, value in fingerprints.items()), TEXT]) + "\n"
    there = mark.read_text() if mark.exists() else ""
    cure = "pass --fresh to start anew there, or name another folder with --out"
    if (there and not there.startswith(f"{HEAD}\n")) or any((folder / name).exists() for name in OLD):
        raise ValueError(f"{folder}: holds a run of another version of physcomp, in other formats of files; {cure}")
    if there and not there.startswith(head):
        raise ValueError(
            f"{folder}: holds results of another study, or of this one before it or its network changed; {cure}"
        )
    with replacing(mark) as temporary:
        temporary.write_text(head + text)

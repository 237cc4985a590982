"""The claim on a folder of results: a mark of the study, network and file format that the results belong to.

The mark is `study.toml`: a line with the format (`ledger.FORMAT`), a line for each fingerprint, `TEXT`, then the study.
A folder without a mark and without results is free; a folder whose mark has other lines is refused, and so is one with
results but without a mark, for nobody knows which study they are of.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from devices.files import replacing
from simulations.runs.ledger import FORMAT

MARK, LEDGER, SUMMARY = "study.toml", "trials.csv", "summary.json"
HEAD = f"# physcomp run, format {FORMAT}"
TEXT = "# as it was run:"
OLD = ("experiment.json", "plans.csv", "runs.csv")  # files of format 1; its marks have no line with the format


def claim(folder: Path, text: str, fingerprints: Mapping[str, str], *, fresh: bool, results: Iterable[str]) -> None:
    """Claim a folder for a study: it must be empty or hold the same study, or `fresh` removes the results there.

    Args:
        folder: the folder; it is made if it is missing.
        text: text of the study, for human readers.
        fingerprints: fingerprints, by name, that must be equal for a run to be resumed.
        fresh: remove earlier results.
        results: patterns of files that runs of this kind write besides ledger and summary.

    Raises:
        ValueError: it holds results of another study, of an unknown one, or in the file format of another version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark, written = folder / MARK, (LEDGER, SUMMARY, *results)
    if fresh:
        for pattern in (*written, *OLD, MARK):  # the mark last: a run killed here leaves no results without it
            for path in folder.glob(pattern):
                path.unlink()
    head = "\n".join([HEAD, *(f"# {name} {value}" for name, value in fingerprints.items()), TEXT]) + "\n"
    cure = "pass --fresh to start anew there, or name another folder with --out"
    try:
        there = mark.read_text() if mark.exists() else ""
    except UnicodeDecodeError:
        raise ValueError(f"{mark}: not text, so that nobody knows what study {folder} holds; {cure}") from None
    if (there and not there.startswith(f"{HEAD}\n")) or any((folder / name).exists() for name in OLD):
        raise ValueError(f"{folder}: holds a run of another version of physcomp, in other formats of files; {cure}")
    if there and not there.startswith(head):
        raise ValueError(
            f"{folder}: holds results of another study, or of this one before it or its network changed; {cure}"
        )
    found = sorted(path.name for pattern in written for path in folder.glob(pattern))
    if found and not there:
        raise ValueError(f"{folder}: holds results ({found[0]}) without {MARK}, the mark of their study; {cure}")
    with replacing(mark) as temporary:
        temporary.write_text(head + text)

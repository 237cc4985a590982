"""The claim on a folder of results: a mark of the study, network and file format that the results belong to.

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
        ValueError: it holds results of another study, or in the file format of another version.
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

"""The checkpoint of a training: all that it takes to go on after a kill, in one file that is replaced as a whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from devices.files import replacing

ENDING = ".checkpoint"  # after the name of the file of weights


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept, and of which training.

    Args:
        path: the file.
        asked: what the training was asked for, by name; only a training that was asked for the same goes on.
    """

    path: Path
    asked: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def beside(cls, target: Path, asked: Mapping[str, Any]) -> "Checkpoint":
        """The checkpoint of a training whose weights are to be written to a file."""
        return cls(target.with_name(target.name + ENDING), asked)

    def load(self) -> dict[str, Any] | None:
        """The state that was kept last; None if there is none.

        Raises:
            ValueError: the file is damaged, or of another training.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            found, state = json.loads(content["asked"]), dict(content["state"])
        except Exception as error:  # damaged files raise many kinds
            reason = " ".join(str(error).split())[:100]
            raise ValueError(f"{self.path}: no checkpoint of a training ({reason}); remove it") from None
        asked = json.loads(json.dumps(self.asked))
        other = [name for name, value in asked.items() if found.get(name) != value]
        if other or found.keys() - asked.keys():
            what = ", ".join(other) or "settings"
            raise ValueError(
                f"{self.path}: a checkpoint of another training (of other {what}); remove it, or give another --out"
            )
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what is kept; a kill leaves the state before or this one, whole."""
        with replacing(self.path) as temporary:
            torch.save({"asked": json.dumps(self.asked), "state": dict(state)}, temporary)

    def remove(self) -> None:
        """Forget what is kept, once the weights are written."""
        self.path.unlink(missing_ok=True)

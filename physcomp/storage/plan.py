"""The plan of a network: the code of every group, the cells of everything stored, and the proof of the choice.

Plans are saved as JSON (`physcomp.storage.plan_format`).
"""

import dataclasses
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import devices
from devices.files import replacing
from physcomp.codes import Code, Medium
from physcomp.codes.base import Ecc, Over
from physcomp.codes.menu import read_menu
from physcomp.networks.layers import Granularity, Layer, layer_of
from physcomp.networks.network import Network
from physcomp.storage import drawing
from physcomp.storage.layer_plan import LayerPlan
from physcomp.storage.other_tensors import Other
from physcomp.storage.plan_format import (
    FORMAT,
    FORMAT_VERSION,
    NEWER_FIELDS,
    READABLE,
    RENAMED,
    fingerprint,
    fingerprint_1,
    layer_fields,
)
from physcomp.storage.plan_format import (
    layer_of as layer_from,
)

DRAWN = 40  # layers in a drawing, at most


@dataclass(frozen=True)
class Proof:
    """How a plan was chosen, and a bound on how good it is.

    Args:
        solver: the name of the solver; `fixed` for a plan without a choice.
        kind: classical, quantum-inspired, quantum or hybrid; `none` for a fixed plan.
        energy: expected loss increase in nats by the model that the solver minimised.
        lower_bound: no choice within the budget has less energy by the same model; None if fixed.
        gap: (energy - lower_bound) / energy; None if fixed.
        seconds: run time of the solver.
        shrinkage: factor on the couplings in that model.
        part: the part of the menu that was offered.
        predicted_loss_increase: expected loss increase in nats, by the model with the shrinkage that proved best.
        heldout_loss: measured mean loss on the held-out images, by which the plan was picked; None if not measured.
        expansion: where the curvature of that model was taken: 0 at the trained weights, 1 at those of the best plan
            before (`physcomp.LossModel.around`).
        predicted_interval: the ends of the 90 % interval of the predicted increase, by the scatter over calibration
            images; empty if it is not known.
        clean_loss: mean loss of the network as trained on the held-out images; None if not measured.
        refined: what was done to the plan after the choice: `rounded in sequence`, `tuned`.
    """

    solver: str
    kind: str
    energy: float
    lower_bound: float | None
    gap: float | None
    seconds: float
    shrinkage: float
    part: str
    predicted_loss_increase: float
    heldout_loss: float | None = None
    expansion: float = 0.0
    predicted_interval: tuple[float, ...] = ()
    clean_loss: float | None = None
    refined: tuple[str, ...] = ()

    @property
    def measured_increase(self) -> float | None:
        """The measured rise of the loss on the held-out images, in nats; None if it was not measured."""
        known = self.heldout_loss is not None and self.clean_loss is not None
        return (self.heldout_loss or 0.0) - (self.clean_loss or 0.0) if known else None

    def fields(self) -> dict[str, Any]:
        """All fields as values for JSON, without those that older versions do not know and that say nothing."""
        newer = {"predicted_interval": (), "clean_loss": None, "refined": ()}
        return {name: value for name, value in dataclasses.asdict(self).items() if newer.get(name, self) != value}


@dataclass(frozen=True)
class Plan:
    """The plan by which a network is stored on the cells of a card.

    Args:
        method: the method that made the plan, such as `joint` or `digital(4)`.
        network: the name of the network.
        network_sha256: the fingerprint of the network; the plan stores no other one.
        card: the name of the card, with its variant.
        card_sha256: the fingerprint of the card; the plan is for no other one.
        read_time_s: seconds since programming at which the levels written are meant to be read.
        granularity: which weights form a group.
        budget: cells per weight that were allowed; None for a fixed plan.
        bits_per_cell: bits that a cell holds reliably.
        menu: names of the codes.
        layers: the plans of the layers.
        others: each tensor outside the groups, and how it is stored.
        ledger: cells by what they hold; their sum is `cells`. `analog` levels; `digits`, `signs`, `masks` and `scales`
            of groups; `setup`, what layers store once (codebooks, heads of streams); `biases`; `others`, the other
            tensors (`norms` in older plans); `plan`, the code of each group.
        proof: how the plan was chosen.
        ecc: how `bits_per_cell` is counted: by the `bound` for any error-correcting code, or by an existing `bch`
            code.
        read_times_s: read times in seconds that counted for the choice; empty: `read_time_s` alone.
        over: how these times counted: by the `mean` of the losses, or by the `worst`.
        parameters: number of parameters of the network, by which cells per weight are counted; 0 (in plans of version
            1 and 2): the weights in its groups.
    """

    method: str
    network: str
    network_sha256: str
    card: str
    card_sha256: str
    read_time_s: float
    granularity: Granularity
    budget: float | None
    bits_per_cell: float
    menu: tuple[str, ...]
    layers: tuple[LayerPlan, ...]
    others: tuple[Other, ...]
    ledger: dict[str, float]
    proof: Proof
    ecc: Ecc = "bound"
    read_times_s: tuple[float, ...] = ()
    over: Over = "mean"
    parameters: int = 0

    @property
    def weights(self) -> int:
        """Number of weights in all groups."""
        return sum(int(np.prod(layer.shape)) for layer in self.layers)

    @property
    def per(self) -> int:
        """What cells per weight are per: the parameters of the network, or in older plans the weights in groups."""
        return self.parameters or self.weights

    @property
    def cells(self) -> float:
        """Cells of everything stored."""
        return sum(self.ledger.values())

    @property
    def cells_per_weight(self) -> float:
        """Cells per parameter of the network, with everything stored counted."""
        return self.cells / self.per

    @property
    def noiseless(self) -> bool:
        """Whether it stores everything digitally, so that every chip reads back the same."""
        return self.ledger["analog"] == 0

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the plan: of everything but the name of the method and the run time of the solver."""
        fields = self._fields()
        del fields["method"], fields["proof"]["seconds"]
        return fingerprint(fields, self.layers)

    def check(self, network: Network, card: devices.Card | None = None) -> None:
        """Check that the plan was made for this network and (if given) this card.

        Raises:
            ValueError: a fingerprint differs.
        """
        if card is not None and card.sha256 != self.card_sha256:
            raise ValueError(f"plan: made for card {self.card}, got {card.name} of other content; choose again for it")
        if network.sha256 != self.network_sha256:
            raise ValueError(
                f"plan: made for network {self.network} with sha256 {self.network_sha256[:12]}…, got {network.name} "
                f"with {network.sha256[:12]}…; choose again for it"
            )

    def layers_in(self, network: Network) -> tuple[Layer, ...]:
        """The layers of a network whose weights have codes in the plan; all other tensors are among `others`."""
        module = network.module
        return tuple(
            layer_of(module, p.name, p.weight, p.bias if len(p.biases) else None, p.transposed, p.groups)
            for p in self.layers
        )

    def named(self, method: str) -> "Plan":
        """The same plan with another name of the method."""
        return dataclasses.replace(self, method=method)

    def share_of_codes(self) -> dict[str, float]:
        """Share of the weights that each code stores, by name of the code; codes that are not used are left out."""
        count: dict[str, float] = {}
        for layer in self.layers:
            size = int(np.prod(layer.shape)) / self.weights
            for name, share in layer.share_of_codes(self.menu).items():
                count[name] = count.get(name, 0.0) + share * size
        return dict(sorted(count.items(), key=lambda item: -item[1]))

    def __repr__(self) -> str:
        groups = sum(layer.groups for layer in self.layers)
        return (
            f"<Plan {self.method} of {self.network} on {self.card}: {self.cells_per_weight:.4f} cells/weight, "
            f"{self.weights:,} weights in {groups:,} groups>"
        )

    def __str__(self) -> str:
        return "\n".join([repr(self)[1:-1], *self._lines()])

    def _lines(self) -> list[str]:
        """What it stores and how it was chosen, in a few lines."""
        proof = self.proof
        bound = "" if proof.lower_bound is None else f", no choice below {proof.lower_bound:.5f}"
        heldout = "" if proof.heldout_loss is None else f"; loss on held-out samples {proof.heldout_loss:.4f}"
        if proof.measured_increase is not None:
            heldout += (
                f", {proof.measured_increase:.4f} more than as trained, predicted {proof.predicted_loss_increase:.4f}"
            )
        return [
            "weights by code: " + ", ".join(f"{name} {share:.1%}" for name, share in self.share_of_codes().items()),
            f"cells ({self.bits_per_cell:.3f} digital bits each): "
            + ", ".join(f"{what} {cells:,.0f}" for what, cells in self.ledger.items() if cells),
            f"energy {proof.energy:.5f} nats by {proof.solver}{bound}{heldout}",
            *([", ".join(proof.refined)] if proof.refined else []),
        ]

    def _repr_html_(self) -> str:
        """Drawing for notebooks: the share of each code in the largest layers and in all, and the ledger."""
        largest = sorted(self.layers, key=lambda layer: -layer.groups * layer.weights)[:DRAWN]
        bars = [(f"all {self.weights:,} weights", self.share_of_codes())]
        for layer in self.layers:
            if layer in largest:
                bars.append((layer.name, layer.share_of_codes(self.menu)))
        left = f"{len(self.layers) - len(largest)} smaller layers are not drawn" if len(self.layers) > DRAWN else ""
        cells = {what: count / self.cells for what, count in self.ledger.items() if count}
        return drawing.page(
            f"Plan {self.method} of {self.network} on {self.card}: {self.cells_per_weight:.4f} cells/weight",
            drawing.stacked(bars, drawing.colours_of_codes(self.menu)),
            drawing.stacked([(f"{self.cells:,.0f} cells", cells)], drawing.colours_of(cells)),
            drawing.lines([*self._lines(), left]),
        )

    def _fields(self) -> dict[str, Any]:
        """All fields but the layers, as values for JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "layers"]
        fields = {name: getattr(self, name) for name in names} | {"proof": self.proof.fields()}
        # What older versions do not know is left out where they need not know it.
        fields["others"] = [other if other != Other(*other[:2]) else other[:2] for other in self.others]
        if not self.parameters:
            del fields["parameters"]
        return fields

    def to_json(self) -> str:
        """The plan as JSON text (`physcomp.storage.plan_format`)."""
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            **self._fields(),
            "layers": [layer_fields(layer) for layer in self.layers],
            "sha256": self.sha256,
            "physcomp": version("physcomp"),
            "cells_per_weight": self.cells_per_weight,
        }
        return json.dumps(content, indent=1)

    def save(self, path: Path | str) -> None:
        """Write the plan as a JSON file; a crash leaves no half-written file."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json() + "\n")

    @classmethod
    def from_json(cls, text: str, source: str = "plan") -> "Plan":
        """Read a plan from JSON text; `source` names the text in errors.

        Raises:
            ValueError: the text is not a plan, has another version, is incomplete, or was changed.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}: not valid JSON ({error}); make the plan again") from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"{source}: not a plan of physcomp; name a file that 'physcomp choose' wrote")
        if fields.get("version") not in READABLE:
            readable = " and ".join(map(str, READABLE))
            raise ValueError(f"{source}: plan version {fields.get('version')}, this physcomp reads {readable}")
        if fields["version"] == 1 and RENAMED in fields:
            fields["ecc"] = fields.pop(RENAMED)
        try:
            names = [field.name for field in dataclasses.fields(cls)]
            values: dict[str, Any] = {name: {**NEWER_FIELDS, **fields}[name] for name in names}
            proof = Proof(**{name: _tuple(value) for name, value in fields["proof"].items()})
            layers = tuple(layer_from(layer, fields["version"]) for layer in fields["layers"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{source}: the plan is incomplete ({error}); make it again") from None
        except (ValueError, IndexError, zlib.error) as error:
            raise ValueError(f"{source}: its layers cannot be read ({error}); make the plan again") from None
        plan = cls(**values | {"proof": proof, "layers": layers, **_tuples(values)})
        found = plan.sha256
        if fields["version"] == 1:
            content = {"format": FORMAT, "version": 1, **values, "proof": proof.fields()}
            found = fingerprint_1(content)
        if found != fields.get("sha256"):
            raise ValueError(f"{source}: its content does not match its sha256; make the plan again")
        return plan

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """Read a plan file.

        Raises:
            ValueError: the file is missing, or an error of `from_json`.
        """
        try:
            return cls.from_json(Path(path).read_text(), str(path))
        except FileNotFoundError:
            raise ValueError(f"{path}: no such plan; make one with 'physcomp choose'") from None


def _tuple(value: Any) -> Any:
    """A list from JSON as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Turn lists from JSON, also nested ones, into tuples."""
    return {
        "menu": tuple(values["menu"]),
        "others": tuple(Other(name, tuple(shape), *how) for name, shape, *how in values["others"]),
        "read_times_s": tuple(values["read_times_s"]),
    }


def moved(plan: Plan, card: devices.Card | str, read_time_s: float) -> Plan:
    """Move a digital plan to the cells of another card or to another read time; bits stay the same.

    Args:
        plan: a plan without analog cells, which reads back alike on every card. Its proof stays, since the loss does
            not depend on the cells; but if cells hold more or fewer bits, another choice might be better.
        card: the other card, or its name.
        read_time_s: seconds from programming to reading.

    Raises:
        ValueError: the plan has analog cells, or the read time is outside the range of the card.
    """
    card = devices.load_card(card) if isinstance(card, str) else card
    if not plan.noiseless:
        raise ValueError(
            f"plan: has analog cells written for {plan.card} after {plan.read_time_s:g} s; choose again for {card.name}"
        )
    medium = Medium(card, read_time_s, ecc=plan.ecc)
    more = plan.bits_per_cell / medium.bits_per_cell
    return dataclasses.replace(
        plan,
        card=card.name,
        card_sha256=card.sha256,
        read_time_s=read_time_s,
        budget=None if plan.budget is None else plan.budget * more,
        bits_per_cell=medium.bits_per_cell,
        ledger={name: cells * more for name, cells in plan.ledger.items()},
        read_times_s=(),
        over="mean",
    )


def menu_of(plan: Plan) -> tuple[Code, ...]:
    """The codes of a plan's menu."""
    return read_menu(plan.menu)

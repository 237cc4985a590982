"""What a loss model is going to be built of, and into which passes its work is cut."""

from dataclasses import dataclass
from functools import cached_property

from physcomp.choice.groundwork import of_losses, of_rows
from physcomp.codes import Code, Medium
from physcomp.curvature.batches import Part, layers_in
from physcomp.curvature.blocks import block_batches, for_gradients, images_for_blocks, images_of_blocks
from physcomp.curvature.couplings import coupling_batches, images_for_couplings, images_of_couplings
from physcomp.curvature.gradients import PROBES, Directions, directions_of
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape


@dataclass(frozen=True, eq=False)
class Setting:
    """What a loss model is going to be built of; see `physcomp.build_model`."""

    network: Network
    samples: Samples
    layers: tuple[Layer, ...]
    codes: tuple[Code, ...]
    medium: Medium
    memory_bytes: int

    @property
    def times(self) -> int:
        """Read times whose errors are measured apart."""
        return len(self.medium.reads) if self.medium.over == "mean" else 1

    @property
    def weights(self) -> int:
        """Weights in all groups."""
        return sum(layer.rows.size for layer in self.layers)

    @cached_property
    def blocks(self) -> tuple[int, list[list[Part]]]:
        """The most weights of a block of the curvature, and the groups of each pass for it."""
        return block_batches(self.layers, self.memory_bytes)

    @property
    def drawn(self) -> int:
        """Number of samples that are drawn for the blocks."""
        return images_for_blocks(len(of_rows(len(self.samples))))

    @property
    def drawn_for_couplings(self) -> int:
        """Number of samples that are drawn for the couplings."""
        return images_for_couplings(len(of_losses(len(self.samples))))

    @cached_property
    def couplings(self) -> tuple[int, list[list[Part]]]:
        """The most groups of a run, and the groups of each pass for the couplings."""
        return coupling_batches(self.layers, len(self.codes), self.times, self.memory_bytes)

    @cached_property
    def probes(self) -> Directions:
        """Directions of gradients for the couplings."""
        return directions_of(self.network, self.samples, PROBES, 0)

    @cached_property
    def one_probe(self) -> Directions:
        """Directions of gradients for the curvature."""
        return directions_of(self.network, self.samples, 1, 0)

    def tape(self, batch: list[Part]) -> Tape:
        """What records a pass for the groups of a batch."""
        return Tape(self.network, tuple(layer for layer, _ in layers_in(self.layers, batch)))

    def weights_in(self, batch: list[Part]) -> int:
        """Weights of the groups of a batch."""
        return sum(part.size * self.layers[part.layer].weights for part in batch)

    def columns_in(self, batch: list[Part]) -> int:
        """Columns of the groups of a batch, for one sample and probe."""
        return self.times * (len(self.codes) + 1) * sum(part.size for part in batch)

    def runs_in(self, batch: list[Part]) -> list[tuple[Layer, int]]:
        """The numbers of groups that are coupled with each other, each with the layer; all of a part if none are."""
        run = self.couplings[0]
        found = []
        for part in batch:
            size = run if run >= 2 else part.size
            sizes = [min(size, part.size - start) for start in range(0, part.size, size)]
            found += [(self.layers[part.layer], groups) for groups in sizes]
        return found

    def of_blocks(self, batch: list[Part]) -> tuple[int, int]:
        """Samples that are collected in a pass for the curvature, and samples that pass at a time."""
        room = for_gradients(self.memory_bytes)
        return images_of_blocks(self.tape(batch), self.samples[: self.drawn], self.weights_in(batch), room)

    def of_couplings(self, batch: list[Part]) -> tuple[int, int]:
        """Samples that are collected in a pass for the couplings, and samples that pass at a time."""
        columns, samples = self.columns_in(batch), self.samples[: self.drawn_for_couplings]
        return images_of_couplings(self.tape(batch), samples, columns, self.probes.probes, self.memory_bytes)

"""The teacher of a training: the outputs that the network in training is to draw near to."""

import torch

from physcomp.networks.network import SOME, Network
from physcomp.networks.passes import Passes
from physcomp.networks.plain_training import copies
from physcomp.networks.samples import Samples
from physcomp.networks.task import Binary, Classes, Task
from physcomp.threads import ShareDone
from physcomp.training.recipe import Recipe

KEPT = 1 << 28  # the most outputs that are kept for all samples, 1 GiB; more are computed anew each time; our choice


class Teacher:
    """The clean network's outputs for each sample, as means over shifted and mirrored copies if these are asked for.

    Args:
        network: the clean network.
        samples: the samples to train on.
        recipe: batch, copies and number format.
        progress: called with the share of the samples whose outputs are computed, 0 to 1.

    Raises:
        ValueError: copies are asked for, but the outputs belong to places of the image.
    """

    def __init__(self, network: Network, samples: Samples, recipe: Recipe, progress: ShareDone) -> None:
        self.samples, self.recipe, self.task = samples, recipe, network.task
        self.passes = Passes(network, samples, bfloat16=recipe.bfloat16)
        self.outputs: torch.Tensor | None = None
        one = self._asked(samples[:SOME])[:1]
        if recipe.copies > 1 and one.dim() > 2:
            raise ValueError(
                f"recipe: outputs of shape {tuple(one.shape[1:])} a sample move with the image, so they have no mean "
                "over shifted or mirrored copies; use shift=0 and mirrored=False"
            )
        if one.numel() * len(samples) <= KEPT:
            found = []
            for start in range(0, len(samples), recipe.batch):
                found.append(self._asked(samples[start : start + recipe.batch]))
                progress(min(1.0, (start + recipe.batch) / len(samples)))
            self.outputs = torch.cat(found)

    def of(self, picked: torch.Tensor) -> torch.Tensor:
        """The outputs for the samples at some indices."""
        return self._asked(self.samples[picked]) if self.outputs is None else self.outputs[picked]

    @torch.no_grad()
    def _asked(self, part: Samples) -> torch.Tensor:
        if self.recipe.copies == 1 or not isinstance(part.inputs, torch.Tensor):
            return self.passes(part.inputs).cpu()
        seen = copies(part.inputs, self.recipe.shift, mirrored=self.recipe.mirrored)
        return mean_output(torch.stack([self.passes(pixels).cpu() for pixels in seen]), self.task)


def mean_output(outputs: torch.Tensor, task: Task) -> torch.Tensor:
    """The output that stands for several (copies, samples, ...): of the mean probabilities, or the mean itself."""
    if isinstance(task, Classes):
        return torch.log_softmax(outputs, dim=2).logsumexp(dim=0)
    return outputs.sigmoid().mean(0).logit(eps=1e-7) if isinstance(task, Binary) else outputs.mean(0)

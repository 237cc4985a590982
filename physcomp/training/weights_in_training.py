"""The weights of a network in training: stored layers, the tensors outside them, and their optimiser."""

import copy
import dataclasses
import math

import torch

import devices
from physcomp.networks.network import Network
from physcomp.networks.passes import Passes
from physcomp.networks.samples import Samples
from physcomp.storage.other_tensors import decoded, encoded, tensors_of
from physcomp.storage.plan import Plan
from physcomp.training.recipe import Recipe
from physcomp.training.stored_layer import as_bfloat16, plan_as_stored, stored_layers

EVERY = 20  # steps of the optimiser after which the bits of entropy-coded groups are counted; our choice
LEAST_CHANGE = 2**-8  # the least change of the logarithm of a step: that of a bfloat16 number
MOST_TIMES = 2000  # of widening one after the other: far more than it takes until all weights are zero


class WeightsInTraining:
    """What is trained of a network, and its state.

    Before each step the weights as read back are written into the parameters of a private copy of the network, whatever
    way the network uses them. The gradients that its parameters get are then passed on to the latent weights, which
    stay on the processor, as does the noise of the cells.

    Args:
        network: the network that the plan was made for; it is not changed.
        plan: the code of each group.
        card: the card of the plan.
        samples: samples to train on.
        recipe: settings of the training.
    """

    def __init__(self, network: Network, plan: Plan, card: devices.Card, samples: Samples, recipe: Recipe) -> None:
        self.network, self.plan, self.recipe = network, plan, recipe
        self.layers = stored_layers(network, plan, card, pruned=False)
        parameters = dict(network.module.named_parameters())
        others = tensors_of(plan.others, network, plan.layers_in(network))
        self.others = {
            other.name: tensor.clone().requires_grad_()
            for other, tensor in others.items()
            if other.name in parameters and tensor.is_floating_point()
        }
        self.fixed = {
            other.name: decoded(other, encoded(other, tensor))
            for other, tensor in others.items()
            if other.name not in self.others
        }
        fixed = copy.deepcopy(network.module)
        fixed.load_state_dict(self.fixed, strict=False)
        self.passes = Passes(dataclasses.replace(network, module=fixed), samples, bfloat16=recipe.bfloat16)
        self.parameters = dict(self.passes.module.named_parameters())
        names = self._values(None)
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in names)
        self.optimizer = self._optimizer()
        self.steps = 0

    def _optimizer(self) -> torch.optim.Optimizer:
        layers = self.layers.values()
        slow: list[torch.Tensor] = [layer.log_scale for layer in layers]
        slow += [layer.bias for layer in layers if layer.bias is not None]
        slow += list(self.others.values())
        rate = self.recipe.learning_rate
        return torch.optim.Adam(
            [
                {"params": [layer.share for layer in layers], "lr": rate},
                {"params": slow, "lr": rate * self.recipe.slow},
            ],
            fused=True,
        )

    def _values(self, generator: torch.Generator | None) -> dict[str, torch.Tensor]:
        """Parameters by name as read back, with gradients in what is trained."""
        layers = self.layers.values()
        found = {layer.weight: layer(generator) for layer in layers}
        found |= {layer.bias_name: as_bfloat16(layer.bias) for layer in layers if layer.bias is not None}
        return found | {name: as_bfloat16(tensor) for name, tensor in self.others.items()}

    def prune(self, done: float) -> None:
        """Drop for good the weights that sparse codes drop up to this point: none at `done` = 0, all at 1."""
        for layer in self.layers.values():
            layer.prune(done)

    def hold(self, *, fully: bool = False) -> None:
        """Widen the steps of entropy-coded groups if they take more bits together than in the plan.

        A step twice as large saves at most a bit for each weight, so that a single time seldom suffices.

        Args:
            fully: go on until they take no more.
        """
        layers = [layer for layer in self.layers.values() if layer.stepped]
        planned = sum(layer.planned_bits for layer in layers)
        weights = sum(len(part.groups) * layer.share.shape[1] for layer in layers for part in layer.stepped)
        for _ in range(MOST_TIMES if fully else 1):
            excess = sum(layer.bits() for layer in layers) - planned
            if excess <= 0:
                return
            for layer in layers:
                layer.widen(max(math.log(2) * excess / weights, LEAST_CHANGE))

    def step(self, samples: Samples, wanted: torch.Tensor | None, generator: torch.Generator) -> float:
        """Take one step of the optimiser on a batch; if the loss is NaN or infinite, nothing is changed.

        Args:
            samples: the batch.
            wanted: the teacher's outputs for it (samples, ...); None: there is no teacher.
            generator: draws the noise of the cells.

        Returns:
            The loss.
        """
        if self.steps % EVERY == 0:
            self.hold()
        self.steps += 1
        values = self._values(generator)
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)
                self.parameters[name].grad = None
        loss = self._loss(samples, wanted)
        if not loss.requires_grad:
            raise ValueError(
                f"finetuning: the loss of {self.network.name} depends on no weight through gradients; check its task"
            )
        found = float(loss.detach())
        if math.isfinite(found):
            loss.backward()  # type: ignore[no-untyped-call]
            self._pass_on(values)
            self.optimizer.step()
        return found

    def _pass_on(self, values: dict[str, torch.Tensor]) -> None:
        """Pass the gradients of parameters on to what their values were made of."""
        self.optimizer.zero_grad()
        gradients = {name: self.parameters[name].grad for name in values}
        found = {
            name: gradient.to_dense() if gradient.is_sparse else gradient
            for name, gradient in gradients.items()
            if gradient is not None
        }
        torch.autograd.backward([values[name] for name in found], [gradient.cpu() for gradient in found.values()])

    def _loss(self, samples: Samples, wanted: torch.Tensor | None) -> torch.Tensor:
        share, passes = self.recipe.distilled, self.passes
        outputs, labels = passes(samples.inputs), samples.labels
        if wanted is None:
            return passes.loss(outputs, labels)
        apart = share * passes.divergence(outputs, wanted, labels, self.recipe.temperature)
        return apart if share == 1 else (1 - share) * passes.loss(outputs, labels) + apart

    @torch.no_grad()
    def network_as_stored(self) -> Network:
        """The network with its tensors as read back, as means over chips, in no more bits than planned."""
        self.hold(fully=True)
        module = copy.deepcopy(self.network.module)
        state = dict(self.fixed)
        for layer in self.layers.values():
            state[layer.weight] = layer.tensor(torch.from_numpy(layer.stored_rows()))
            if layer.bias is not None:
                state[layer.bias_name] = torch.from_numpy(layer.stored_biases())
        state |= {name: tensor.detach().bfloat16().float() for name, tensor in self.others.items()}
        module.load_state_dict(state, strict=False)
        return dataclasses.replace(self.network, module=module)

    def plan_as_stored(self, trained: Network) -> Plan:
        """The plan of the network as stored."""
        return plan_as_stored(trained, self.plan, self.layers)

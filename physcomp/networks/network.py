"""Networks that are ready to be stored: batch norms folded, and a fingerprint by which a network is recognised."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn
from torch.fx import GraphModule

from physcomp.networks.device import CPU, checked_device, copy_on, inputs_on, running_on
from physcomp.networks.forward import Pick, forward
from physcomp.networks.left_out import LeftOut, left_out
from physcomp.networks.norms import folded
from physcomp.networks.plain_modules import plain
from physcomp.networks.samples import Inputs, Samples
from physcomp.networks.task import CLASSES, Task, task_of

SOME = 2  # samples that a network is tried on when it is wrapped


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, ready to be stored.

    Args:
        name: the name in reports.
        module: in evaluation mode, with batch norms folded where possible.
        classes: the names of the classes, in the order of the logits; empty if they are unknown.
        task: what the outputs mean.
        output: which output counts, if the module has several; see `physcomp.networks.forward`.
        parameters: number of parameters of the network as it was given, each once; cells per weight are per
            parameter. 0: those of `module`.
        exact: names of tensors outside all layers that bfloat16 would change too much, and that are stored as float32
            (`physcomp.networks.survey` finds them).
        left_out: tensors of the network as it was given that `module` no longer has, each with the reason.
        made: names of the parameters of `module` that the network as given did not have: biases of layers into which a
            norm was folded.
        device: on which device of torch it runs, see `on`; `module` stays on the processor.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...] = ()
    task: Task = CLASSES
    output: Pick = None
    parameters: int = 0
    left_out: tuple[LeftOut, ...] = ()
    made: tuple[str, ...] = ()
    device: str = CPU
    exact: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.parameters:
            object.__setattr__(self, "parameters", parameters_of(self.module))

    @property
    def sha256(self) -> str:
        """Fingerprint of the module; see `fingerprint`."""
        return fingerprint(self.module)

    def on(self, device: str) -> "Network":
        """The same network, to be run on another device of torch, such as `cuda`; see `physcomp.networks.device`.

        Raises:
            ValueError: there is no such device.
        """
        return replace(self, device=checked_device(device))

    @cached_property
    def running(self) -> nn.Module:
        """The module that runs: `module` itself, or a copy of it on another device."""
        return self.module if self.device == CPU else copy_on(self.module, self.device)

    def outputs(self, inputs: Inputs, *, channels_last: bool = False) -> torch.Tensor:
        """The output that counts, float32 (samples, ...), see `physcomp.networks.forward.forward`.

        It runs on the device; the outputs are on the processor.
        """
        with running_on(self.device):
            given = inputs_on(inputs, self.device)
            return forward(self.running, given, self.output, channels_last=channels_last).cpu()

    def check(self, samples: Samples) -> None:
        """Check that the network takes the samples, and that their labels fit its outputs and its task.

        Raises:
            ValueError: something does not fit.
        """
        with torch.no_grad():
            for part in (samples[:SOME], samples[max(0, len(samples) - SOME) :]):
                outputs = self.outputs(part.inputs)
                self.task.check(outputs, part.labels)
            # The labels of all samples, against the shape of these outputs.
            self.task.check(outputs[:1].expand(len(samples), *outputs.shape[1:]), samples.labels)


def parameters_of(module: nn.Module) -> int:
    """Number of parameters of a module, each counted once under whatever names it has."""
    return sum(parameter.numel() for parameter in module.parameters())


def prepare(module: nn.Module, inputs: Inputs | None = None) -> nn.Module:
    """Copy a module for storage: in evaluation mode, float32, and with each batch norm folded into the layer before it.

    A folded norm costs nothing to store, since a filter's scale and bias are stored anyway. Folds that would change the
    outputs are not made. A module that torch.fx cannot trace keeps its norms, and storing their parameters is counted.

    Args:
        module: any module; it is not changed.
        inputs: some inputs, by which folds are checked; None: random ones of a likely shape.

    Raises:
        ValueError: a weight is NaN or infinite, or the module cannot be stored.
    """
    return folded(_dense(plain(module)), inputs)


def _dense(module: nn.Module) -> nn.Module:
    """The same module, whose state is all in dense tensors.

    Raises:
        ValueError: a parameter or buffer is sparse.
    """
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.layout != torch.strided:
            raise ValueError(
                f"network: '{name}' is a sparse tensor, which is not stored; make it dense, or a buffer that is not "
                "saved (persistent=False) if the network's code builds it"
            )
    return module


def fingerprint(module: nn.Module) -> str:
    """Fingerprint of a module: SHA-256 over its operations, and names, shapes and values of parameters and buffers.

    Of a layer's settings only long-standing ones of torch are hashed, so that versions of torch agree on it.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {setting: getattr(part, setting) for setting in getattr(part, "__constants__", ())}
        kind = "GraphModule" if isinstance(part, GraphModule) else type(part).__qualname__
        digest.update(f"{name} {kind} {settings}\n".encode())
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            target = getattr(node.target, "__name__", node.target)
            digest.update(f"{node.op} {target} {node.args} {node.kwargs}\n".encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def prepared_network(
    given: nn.Module,
    inputs: Inputs | None,
    name: str,
    task: Task = CLASSES,
    classes: tuple[str, ...] = (),
    output: Pick = None,
) -> Network:
    """A network of a plain module, which is not used afterwards: batch norms folded, and what that changes noted.

    The arguments are those of `Network`; `inputs` are some inputs, by which folds are checked, see `prepare`.
    """
    prepared = folded(given, inputs, output)
    had = {each for each, _ in given.named_parameters(remove_duplicate=False)}
    return Network(
        name,
        prepared,
        tuple(classes),
        task,
        output,
        parameters_of(given),
        left_out(given, prepared),
        tuple(each for each, _ in prepared.named_parameters() if each not in had),
    )


def wrap(
    module: nn.Module,
    name: str = "network",
    *,
    samples: Samples | None = None,
    task: Task | str = CLASSES,
    classes: tuple[str, ...] = (),
    output: Pick = None,
) -> Network:
    """Make a `Network` of your own PyTorch module: a copy in evaluation mode, with batch norms folded.

    Args:
        module: any module whose parameters are floating-point numbers; it is not changed.
        name: the name in reports.
        samples: some samples, on which the network is tried and folds of norms are checked; the first two are enough.
            `physcomp.inspect` then says what becomes of every tensor.
        task: what the outputs mean: `classes`, `binary`, `multilabel`, `regression`, or a `Task`.
        classes: the names of the classes, in the order of the logits.
        output: which output counts, if the module returns several.

    Raises:
        ValueError: a weight is NaN, infinite or sparse, the module cannot be stored, or it does not take the samples.
    """
    if not isinstance(name, str):
        raise ValueError(f"wrap: the name is a text, got {type(name).__name__}; pass samples and task by name")
    if samples is not None and not isinstance(samples, Samples):
        raise ValueError(f"wrap: samples are physcomp.Samples, got {type(samples).__name__}; make them of your data")
    inputs = None if samples is None else samples[:SOME].inputs
    given = _dense(plain(module, None if inputs is None else lambda tried: forward(tried, inputs, output)))
    network = prepared_network(given, inputs, name, task_of(task), classes, output)
    if samples is not None:
        network.check(samples)
        _check_steady(network, samples[:SOME].inputs)
    return network


@torch.no_grad()
def _check_steady(network: Network, inputs: Inputs) -> None:
    if not torch.equal(network.outputs(inputs), network.outputs(inputs)):
        raise ValueError(
            f"network: {network.name} gives other outputs when called again on the same samples; take random numbers "
            "and counters out of its evaluation mode"
        )

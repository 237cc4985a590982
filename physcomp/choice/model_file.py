"""Files of loss models, so that another budget, card or read time does not ask for the whole work again.

The HDF5 file (format `physcomp-loss-model`, version 2):
    /                      attributes `format`, `version`, `physcomp`, `network`, `network_sha256`, `samples_sha256`,
                           `layers_sha256`, and `settings`: the menu and other arguments of `build_model`, JSON
    /card                  the card, TOML text, with attribute `variant`
    /layers/N/importance   float32 (groups, weights)
    /layers/N/rows/M       unsigned integers or float32 (groups, weights), each once (`RowsToWrite.held`)
    /layers/N/codes        for each code: which of the rows it writes, JSON; rows as trained are not in the file
    /layers/N/scales/CODE  float32 (groups,), the scales of rounded rows, by number of the code
    /layers/N/fit/…        scales, cost, and by number of the code allocations and learned numbers
    /layers/N/coupling/…   alone, noise, shift (if any), folds, and grams/RUN
Each data set carries the SHA-256 of its content as the attribute `sha256`, the settings theirs as `settings_sha256`.
Version 1 had no folds, without which no error can be told; such a model is built again.
"""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import devices
from devices.files import replacing
from physcomp.choice.fits import Fit
from physcomp.choice.groundwork import Groundwork, keeper
from physcomp.codes import Code, Medium
from physcomp.codes.menu import read_menu
from physcomp.compensation.rows import Held, RowsToWrite
from physcomp.curvature.column_sums import Coupling
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples, tensors_of
from physcomp.networks.survey import survey

FORMAT = "physcomp-loss-model"
FORMAT_VERSION = 2


def save_model(
    path: Path | str, model: Groundwork, medium: Medium, fits: tuple[Fit, ...], couplings: tuple[Coupling, ...]
) -> None:
    """Write a loss model, see `physcomp.choice.loss_model.LossModel`; a crash leaves no half-written file."""
    settings = {
        "menu": [code.name for code in model.menu],
        "offered": model.offered,
        "granularity": model.granularity,
        "seed": model.seed,
        "memory_bytes": model.memory_bytes,
        "read_time_s": medium.written_for_s,
        "ecc": medium.ecc,
        "read_times_s": list(medium.span_s),
        "over": medium.over,
    }
    text = json.dumps(settings)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "physcomp": version("physcomp"),
                "network": model.network.name,
                "network_sha256": model.network.sha256,
                "samples_sha256": samples_sha256(model.images),
                "layers_sha256": _layers_sha256(model.layers),
                "settings": text,
                "settings_sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
        )
        file["card"] = medium.card.text
        file["card"].attrs["variant"] = medium.card.variant
        file["card"].attrs["sha256"] = _checksum(file["card"][()])
        for number, (fit, coupling) in enumerate(zip(fits, couplings, strict=True)):
            _save_layer(file.create_group(f"layers/{number}"), model, number, fit, coupling)


def _save_layer(group: h5py.Group, model: Groundwork, number: int, fit: Fit, coupling: Coupling) -> None:
    to_write = model.to_write[number]
    _save(group, "importance", model.importances[number][:])
    places: dict[int, int] = {}
    codes = []
    for place, code in enumerate(model.menu):
        found = to_write[code.name]
        held = None
        if found.alphabet is not None or found.pruned:
            held = places.setdefault(id(found.held), len(places))
            if f"rows/{held}" not in group:
                _save(group, f"rows/{held}", found.held[:])
        if found.scales is not None:
            _save(group, f"scales/{place}", found.scales)
        codes.append(held)
    _save(group, "codes", np.frombuffer(json.dumps(codes).encode(), np.uint8))
    _save(group, "fit/scales", fit.scales)
    _save(group, "fit/cost", fit.cost)
    for name, by_code in (("allocations", fit.allocations), ("learned", fit.learned)):
        for place, code in enumerate(model.menu):
            if code.name in by_code:
                _save(group, f"fit/{name}/{place}", by_code[code.name])
    for run, gram in enumerate(coupling.grams):
        _save(group, f"coupling/grams/{run}", gram)
    _save(group, "coupling/alone", coupling.alone)
    _save(group, "coupling/noise", coupling.noise)
    _save(group, "coupling/folds", coupling.folds)
    if coupling.shift is not None:
        _save(group, "coupling/shift", coupling.shift)


def read_model(path: Path | str, network: Network, samples: Samples) -> dict[str, Any]:
    """Read what a loss model is made of, by the names of its arguments.

    Args:
        path: the file.
        network: the network that it was built for.
        samples: the calibration samples that it was built with.

    Raises:
        ValueError: the file is missing, is not HDF5 or no loss model, has another version, is incomplete or was
            changed, or belongs to another network or to other samples.
    """
    try:
        with h5py.File(path, "r") as file:
            return _load(file, str(path), network, samples)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such loss model; save one with 'model.save(path)'") from None
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a readable HDF5 file ({reason}); build the loss model again") from None
    except KeyError as error:
        raise ValueError(f"{path}: the loss model is incomplete ({error}); build it again") from None


def _load(file: h5py.File, source: str, network: Network, samples: Samples) -> dict[str, Any]:
    if file.attrs.get("format") != FORMAT:
        raise ValueError(f"{source}: an HDF5 file, but no loss model of physcomp; name one that 'model.save' wrote")
    if file.attrs["version"] != FORMAT_VERSION:
        raise ValueError(
            f"{source}: loss model of version {file.attrs['version']}, this physcomp reads {FORMAT_VERSION}; "
            "build it again"
        )
    text = str(file.attrs["settings"])
    if hashlib.sha256(text.encode()).hexdigest() != file.attrs["settings_sha256"]:
        raise ValueError(f"{source}: its settings do not match their checksum; build the loss model again")
    if file.attrs["network_sha256"] != network.sha256:
        raise ValueError(
            f"{source}: a loss model of network {file.attrs['network']}, got {network.name}, which differs from it; "
            "name the same network or build the loss model again"
        )
    if file.attrs["samples_sha256"] != samples_sha256(samples):
        raise ValueError(
            f"{source}: a loss model from other calibration samples than these {len(samples)}; name the same ones or "
            "build the loss model again"
        )
    settings: dict[str, Any] = json.loads(text)
    surveyed = survey(network, samples, settings["granularity"])
    network, layers = surveyed.network, surveyed.layers
    if file.attrs["layers_sha256"] != _layers_sha256(layers):
        raise ValueError(f"{source}: a loss model of other layers than this physcomp finds; build it again")
    menu = read_menu(settings["menu"])
    card = devices.Card.from_text(_read(file, "card", source).decode(), file["card"].attrs["variant"])
    keep = keeper(sum(layer.rows.size for layer in layers), len(menu), settings["memory_bytes"])
    found = [_load_layer(file, source, number, layer, menu, keep) for number, layer in enumerate(layers)]
    return dict(
        network=network,
        granularity=settings["granularity"],
        layers=layers,
        menu=menu,
        offered=settings["offered"],
        importances=tuple(importance for importance, _, _, _ in found),
        to_write=tuple(to_write for _, to_write, _, _ in found),
        images=samples,
        seed=settings["seed"],
        memory_bytes=settings["memory_bytes"],
        medium=Medium(
            card,
            settings["read_time_s"],
            ecc=settings["ecc"],
            span_s=tuple(settings["read_times_s"]),
            over=settings["over"],
        ),
        fits=tuple(fit for _, _, fit, _ in found),
        couplings=tuple(coupling for _, _, _, coupling in found),
    )


def _load_layer(
    file: h5py.File,
    source: str,
    number: int,
    layer: Layer,
    menu: tuple[Code, ...],
    keep: Callable[[NDArray[Any]], Held],
) -> tuple[Held, dict[str, RowsToWrite], Fit, Coupling]:
    folder = f"layers/{number}"

    def read(name: str) -> NDArray[Any]:
        found: NDArray[Any] = _read(file, f"{folder}/{name}", source)
        return found

    def by_code(name: str) -> dict[str, NDArray[Any]]:
        return {code.name: read(f"{name}/{i}") for i, code in enumerate(menu) if f"{folder}/{name}/{i}" in file}

    held = {int(place): keep(read(f"rows/{place}")) for place in file[folder].get("rows", ())}
    scales = by_code("scales")
    to_write = {}
    for code, place in zip(menu, json.loads(read("codes").tobytes()), strict=True):
        alphabet = code.alphabet if code.name in scales else None
        rows = layer.rows if place is None else held[place]
        to_write[code.name] = RowsToWrite(rows, scales.get(code.name), alphabet, place is not None and alphabet is None)
    grams = [read(f"coupling/grams/{run}") for run in range(len(file[folder]["coupling"].get("grams", ())))]
    coupling = Coupling(
        grams=tuple(grams),
        alone=read("coupling/alone"),
        noise=read("coupling/noise"),
        importance=None,
        shift=read("coupling/shift") if f"{folder}/coupling/shift" in file else None,
        folds=read("coupling/folds"),
    )
    fit = Fit(read("fit/scales"), read("fit/cost"), by_code("fit/allocations"), by_code("fit/learned"))
    return keep(read("importance")), to_write, fit, coupling


def _save(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    content = np.ascontiguousarray(array)
    group[name] = content
    group[name].attrs["sha256"] = _checksum(content)


def _read(file: h5py.File, name: str, source: str) -> Any:
    """The content of a data set, checked.

    Raises:
        ValueError: it does not match its checksum.
    """
    content = file[name][()]
    if _checksum(content) != file[name].attrs["sha256"]:
        raise ValueError(f"{source}: /{name} does not match its checksum; build the loss model again")
    return content


def _checksum(content: NDArray[Any] | bytes) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).hexdigest()


def samples_sha256(samples: Samples) -> str:
    """Fingerprint of samples: SHA-256 over shapes, types and values of inputs and labels."""
    digest = hashlib.sha256()
    for tensor in (*tensors_of(samples.inputs), samples.labels):
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _layers_sha256(layers: tuple[Layer, ...]) -> str:
    """Fingerprint of what is grouped in which way; the weights themselves are in that of the network."""
    names = [f"{layer.name} {layer.weight} {layer.rows.shape} {layer.bias_of_group}" for layer in layers]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()

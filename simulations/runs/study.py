"""Study files: TOML files that are checked completely before anything runs; `kind` determines their fields.

A kind's own fields are a subclass of `Study` (pydantic); fields that it does not have are refused. A table `[quick]`
holds values of a shorter variant. Paths are relative to the file.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

import devices
import physcomp
from physcomp.codes.base import Over
from simulations.runs.fields import CardName, Count, FilePath, Number, Once, PlainName, Seed, Share, Source, TaskName
from simulations.runs.given import Data, open_network

STUDIES = Path(__file__).parent.parent / "studies"
TOML = (
    (r"a valid dictionary( or instance of \w+)?", "a table"),
    (r"a valid (tuple|list)", "an array"),
    (r"a valid string", "a text"),
    (r" after validation", ""),
)
"""Words of pydantic, as patterns, and what they are in TOML."""
FROZEN = ConfigDict(frozen=True, extra="forbid")


class StudyCard(BaseModel):
    """A card of a study, with its read times.

    Args:
        card: name or file of the card.
        read_times_s: several read times, in seconds since programming, that all count for the choice and are all
            measured. Empty: `read_time_s` alone.
        read_time_s: seconds from programming to reading for which levels are written. Default: the last of several
            times.
        over: how several times count, by the `mean` of losses or by the `worst`; see `physcomp.build_models`.
    """

    model_config = FROZEN

    card: CardName
    read_times_s: Annotated[tuple[Number, ...], Once] = ()
    read_time_s: Number = Field(default_factory=lambda values: max(values.get("read_times_s", ()), default=0.0))
    over: Over = "mean"

    @model_validator(mode="after")
    def _valid_times(self) -> "StudyCard":
        for time_s in (self.read_time_s, *self.read_times_s):
            devices.load_card(self.card).check_time(time_s)
        return self

    @property
    def measured_s(self) -> tuple[float, ...]:
        """The times at which results are measured."""
        return self.read_times_s or (self.read_time_s,)

    @property
    def place(self) -> tuple[object, ...]:
        """The card and its times as a key: equal for equal cards and times, in whatever order these are named."""
        over = self.over if len(self.read_times_s) > 1 else None
        return devices.load_card(self.card).name, self.read_time_s, tuple(sorted(self.read_times_s)), over


class Study(BaseModel):
    """The fields of studies of all kinds.

    Args:
        kind: the kind of study; a subclass declares it as `Literal["its name"]`.
        name: name of the study, also of a folder: results go to `runs/NAME` unless another folder is given.
        seed: seed of all randomness.
    """

    model_config = FROZEN

    kind: str
    name: PlainName
    seed: Seed = 0
    _text: str = PrivateAttr("")
    _quick: bool = PrivateAttr(False)

    @property
    def text(self) -> str:
        """The text of the file; with `# quick` before it for the quick variant."""
        return f"# quick\n{self._text}" if self._quick else self._text

    @property
    def quick(self) -> bool:
        """Whether this is the quick variant."""
        return self._quick

    @property
    def sha256(self) -> str:
        """Fingerprint of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """The default folder of its results."""
        return Path("runs") / (f"{self.name}-quick" if self._quick else self.name)


def _toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(name)} = {_toml(each)}' for name, each in value.items())}}}"
    return json.dumps(value, default=str)


class NetworkFields(BaseModel):
    """The fields that name a network and its data, as on the command line.

    Args:
        network: a description (.toml), file.py:function or package.module:name.
        data: a file, a folder or file.py:function; `images` is another name of it.
        args: what the function is called with.
        weights: its file of weights.
        task: classes, binary, multilabel, regression, or file.py:NAME of a `physcomp.Task`.
        output: name or number of the output that counts, if there are several.
        torch_device: the device of torch on which it runs, such as `cuda`.
        heldout_data: another source of the held-out samples.
        split: shares of data without parts.
        split_seed: seed of the split.
        mean: of each channel.
        sd: standard deviation of each channel.
        size: height and width of images of folders.
    """

    model_config = FROZEN

    network: Source | None
    data: Source | None = Field(validation_alias=AliasChoices("data", "images"))
    args: dict[str, Any] | None = None
    weights: FilePath | None = None
    task: TaskName = "classes"
    output: str | int | None = None
    torch_device: str = "cpu"
    heldout_data: Source | None = None
    split: dict[str, Share] | None = None
    split_seed: Seed = 0
    mean: tuple[Number, ...] | None = None
    sd: tuple[Number, ...] | None = None
    size: tuple[Count, Count] | None = None

    def data_of(self, limit: int | None = None) -> Data:
        """The data, at most so many samples of each part."""
        return Data(
            str(self.data), heldout=self.heldout_data, split=self.split, seed=self.split_seed, mean=self.mean,
            sd=self.sd, size=self.size, limit=limit,
        )  # fmt: skip

    def opened(self, samples: physcomp.Samples | None) -> physcomp.Network:
        """The network, tried on the first samples; see `simulations.runs.given.open_network`."""
        return open_network(
            str(self.network), samples, args=self.args, weights=self.weights, task=self.task, output=self.output,
            device=self.torch_device,
        )  # fmt: skip


class NetworkStudy(NetworkFields, Study):
    """The fields of studies of a network: which it is, and its data."""

    @property
    def images(self) -> Path:
        """The source of data as a path, by the name it had when all data were images."""
        return Path(str(self.data))

    def samples(self, *, exactly: bool = False, **fields: str) -> dict[str, physcomp.Samples]:
        """The first samples of some parts, which share none; as many as the study asks for.

        Args:
            exactly: whether there must be as many; otherwise fewer do where the study leaves the field out.
            fields: for each part the name of the field that says how many.

        Raises:
            ValueError: the data cannot be read, lack a part, or have too few samples.
        """
        counts = {part: getattr(self, name) for part, name in fields.items()}
        limit = None if None in counts.values() else max(counts.values())
        found = self.data_of(limit).parts(list(counts))
        for part, name in fields.items():
            asked = exactly or name in self.model_fields_set
            if counts[part] is not None and len(found[part]) < counts[part] and asked:
                raise ValueError(
                    f"{self.data}: {part} has {len(found[part])} samples, the study asks for {counts[part]}; ask for "
                    "fewer"
                )
        return {part: samples[: counts[part]] for part, samples in found.items()}


AnyStudy = TypeVar("AnyStudy", bound=Study)


def load_study(path: Path | str, models: Mapping[str, type[Study]], *, quick: bool = False) -> Study:
    """Read and check a study file.

    Args:
        path: the file.
        models: the fields of each kind of study.
        quick: replace fields by those of the table `[quick]`, so that it takes minutes.

    Raises:
        ValueError: the file is missing or not TOML, or a field is missing, unknown or out of range.
    """
    path = Path(path)
    try:
        text = path.read_text()
        content = tomllib.loads(text)
    except FileNotFoundError:
        known = ", ".join(sorted(str(study) for study in STUDIES.glob("*.toml")))
        raise ValueError(f"{path}: no such study; physcomp ships {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML ({error}); correct that line") from None
    faster = content.pop("quick", None)
    if not isinstance(faster, dict | None):
        raise ValueError(f"{path}: quick should be a table [quick] of fields, got {faster!r}; correct it")
    if quick and faster is None:
        raise ValueError(f"{path}: the study has no table [quick]; run it without --quick, or add one")
    whole = None if quick else _checked(content, models, path)
    short = None if faster is None else _checked(content | faster, models, path, "with its [quick], ")
    study = whole or short
    assert study is not None
    study._text, study._quick = text, quick
    return study


def _checked(content: dict[str, Any], models: Mapping[str, type[Study]], path: Path, which: str = "") -> Study:
    union: Any = reduce(or_, models.values())
    adapter: TypeAdapter[Study] = TypeAdapter(Annotated[union, Field(discriminator="kind")])
    try:
        return adapter.validate_python(content, context={"folder": path.parent})
    except ValidationError as error:
        fields = models[content["kind"]].model_fields if content.get("kind") in tuple(models) else {}
        raise ValueError(f"{path}: {which}{said(error, tuple(fields), ', '.join(models))}") from None


def said(error: ValidationError, fields: tuple[str, ...], kinds: str = "") -> str:
    """The first error in one line: the field, the rule, the value and the cure.

    Args:
        error: the error of pydantic.
        fields: names of the fields of this kind of study.
        kinds: names of the kinds of studies.
    """
    first = error.errors(include_url=False)[0]
    loc = first["loc"][1:] if kinds else first["loc"]  # begins with the kind
    named = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    field = "".join(letter if letter.isprintable() else "?" for letter in "".join(named)).removeprefix(".")
    match first["type"]:
        case "union_tag_not_found":
            return f"the study lacks kind; add one of {kinds}"
        case "union_tag_invalid":
            return f"kind is one of {kinds}, got '{first['ctx']['tag']}'; correct it"
        case "missing":
            return f"the study lacks {field}; add it, see {STUDIES / 'demo.toml'} for a whole study"
        case "extra_forbidden":
            there = f"; there are {', '.join(fields)}" if fields and len(loc) == 1 else ""
            return f"the study has the unknown field {field}; remove it{there}"
        case "value_error":
            rule = str(first["ctx"]["error"])
            return rule if not field or rule.startswith(f"{field}: ") else f"{field}: {rule}"
        case _:
            rule = re.sub(r"^(Input|Value|Tuple|List|Dictionary) ", "", first["msg"])
            for pattern, word in TOML:
                rule = re.sub(pattern, word, rule)
            return f"{field} {rule}, got {first['input']!r}; correct it"


def make_study(model: type[AnyStudy], **values: Any) -> AnyStudy:
    """Make a study without a file; its text is that of a file with the same fields.

    Raises:
        ValueError: a value is missing, unknown or out of range.
    """
    try:
        study = model(**values)
    except ValidationError as error:
        raise ValueError(said(error, tuple(model.model_fields))) from None
    named = {"kind": study.kind, **{name: value for name, value in values.items() if value is not None}}
    study._text = "".join(f"{name} = {_toml(value)}\n" for name, value in named.items())
    return study

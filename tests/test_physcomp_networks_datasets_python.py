"""Data from code of the user: every form that it may return, and what is said where it fails."""

import random
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch

from physcomp.networks.datasets.reading import load_parts, load_samples
from physcomp.networks.samples import Samples

HEAD = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset, random_split
import physcomp
from physcomp.networks.samples import Samples
x = torch.arange(30.0).reshape(30, 1) + torch.zeros(30, 2)
y = torch.arange(30) % 3
class Items(Dataset):
    def __init__(self, form=tuple): self.form = form
    def __len__(self): return 30
    def __getitem__(self, i):
        if i >= 30: raise IndexError(i)
        return {"pixel_values": x[i], "label": int(y[i])} if self.form is dict else (x[i].numpy(), int(y[i]))
class Stream(IterableDataset):
    def __iter__(self): return iter(zip(x, y))
"""
FORMS = {
    "samples": "return Samples(x, y)",
    "pair": "return x.numpy(), y",
    "list of two": "return [x, y]",
    "dictionary": "return {'inputs': x, 'labels': y}",
    "tensor dataset": "return TensorDataset(x, y)",
    "dataset": "return Items()",
    "dataset of dictionaries": "return Items(dict)",
    "list of samples": "return [(x[i], y[i]) for i in range(30)]",
    "loader": "return DataLoader(Items(), batch_size=7, shuffle=True)",
    "loader that collates": "return DataLoader(Items(dict), batch_size=4, drop_last=True, collate_fn=lambda items: "
    "(torch.stack([i['pixel_values'] for i in items]), torch.tensor([i['label'] for i in items])))",
    "loader of a part": "return DataLoader(TensorDataset(torch.cat([x, x + 90]), torch.cat([y, y])), "
    "sampler=SubsetRandomSampler(range(30)))",
    "loader of own batches": "return DataLoader(TensorDataset(x, y), batch_sampler=[range(20), range(10, 30)])",
    "unsigned": "return x, y.to(torch.uint16)",
    "stream": "return Stream()",
    "loader of a stream": "return DataLoader(Stream(), batch_size=4)",
    "loader of batches": "return DataLoader([(x[i:i + 5], y[i:i + 5]) for i in range(0, 30, 5)], batch_size=None)",
    "subset": "return random_split(TensorDataset(x, y), [30])[0]",
}


def write(folder: Path, body: str, head: str = "def data():\n    ", before: str = HEAD) -> str:
    path = folder / "data.py"
    path.write_text(dedent(before) + head + body + "\n")
    return f"{path}:data"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(tmp_path: Path, form: str) -> None:
    before = torch.random.get_rng_state()
    samples = load_samples(write(tmp_path, FORMS[form]))
    order = samples.inputs[:, 0].argsort()
    assert torch.equal(samples.inputs[order], torch.arange(30.0)[:, None] + torch.zeros(30, 2))
    assert samples.labels[order].tolist() == [i % 3 for i in range(30)]
    assert (samples.inputs.dtype, samples.labels.dtype) == (torch.float32, torch.int64)
    assert torch.equal(torch.random.get_rng_state(), before)
    parts = load_parts(write(tmp_path, FORMS[form]), ["calibration", "heldout", "test"])
    assert {name: len(part) for name, part in parts.items()} == {"calibration": 15, "heldout": 7, "test": 8}
    assert len(load_samples(write(tmp_path, FORMS[form]), limit=4)) == 4


def test_several_inputs(tmp_path: Path) -> None:
    assert len(load_samples(write(tmp_path, "return (x, x + 1), y")).inputs) == 2
    assert len(load_samples(write(tmp_path, "return x, x + 1, y")).inputs) == 2
    assert len(load_samples(write(tmp_path, "return TensorDataset(x, x + 1, y)")).inputs) == 2
    assert list(load_samples(write(tmp_path, "return {'a': x, 'b': x}, y")).inputs) == ["a", "b"]
    items = "return [({'a': x[i], 'b': x[i]}, y[i]) for i in range(30)]"
    assert list(load_samples(write(tmp_path, items)).inputs) == ["a", "b"]


def test_pillow_images_become_pixels(tmp_path: Path) -> None:
    source = write(tmp_path, "return [(Image.new('RGB', (4, 3), (255, 0, 51)), 1), (Image.new('RGB', (4, 3)), 0)]")
    samples = load_samples(source)
    assert samples.inputs.shape == (2, 3, 3, 4)
    red = samples.inputs[samples.labels == 1][0]
    assert red[:, 0, 0].tolist() == [1, 0, pytest.approx(0.2)]


def test_a_function_may_take_the_part(tmp_path: Path) -> None:
    given = "return (x, y) if part == 'test' else (x + 90, y)"
    source = write(tmp_path, given, head="def data(part='train'):\n    ")
    assert load_samples(source, "test").inputs.max() == 29
    assert load_samples(source).inputs.min() == 90
    assert len(load_parts(source, ["train", "test"])) == 2


def test_a_dictionary_may_hold_the_parts(tmp_path: Path) -> None:
    source = write(tmp_path, "return {'train': Items(), 'val': (x + 90, y)}")
    assert load_samples(source, "heldout").inputs.min() == 90
    source = write(tmp_path, "return {'x_train': x, 'y_train': y, 'x_test': x + 90, 'y_test': y}")
    assert load_samples(source, "test").inputs.min() == 90


def test_what_is_no_function_is_taken_as_it_is(tmp_path: Path) -> None:
    assert len(load_samples(write(tmp_path, "Items()", head="data = "))) == 30


def test_objects_themselves_are_sources() -> None:
    inputs, labels = torch.rand(40, 2), torch.arange(40) % 3
    dataset = torch.utils.data.TensorDataset(inputs, labels)
    for source in (dataset, (inputs, labels), {"x": inputs, "y": labels}, Samples(inputs, labels)):
        assert torch.equal(load_samples(source).inputs, inputs)
    with pytest.raises(ValueError, match=r"^the int given: got int; give a physcomp\.Samples"):
        load_samples(3)


def test_random_items_are_drawn_from_the_seed(tmp_path: Path) -> None:
    random = "return [(torch.rand(2), 0) for _ in range(5)]"
    one, same, other = (load_samples(write(tmp_path, random), seed=seed).inputs for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_file_sees_its_neighbours_and_leaves_nothing_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_data.py").write_text("number = 5\n")
    before = list(sys.path)
    source = write(tmp_path, "from neighbour_of_data import number\n    return x + number, y")
    # An import inside the function comes after loading: the file's folder is still its own.
    source = write(tmp_path, "return x + number, y", before=HEAD + "from neighbour_of_data import number\n")
    assert load_samples(source).inputs.min() == 5
    assert sys.path == before


FAULTS = {
    "return None": "got None; give a physcomp.Samples",
    "return 3": "got int; give",
    "return x": "got Tensor; give",
    "return (x, 'y')": "got tuple of Tensor, str; give",
    "return {}": "no array is named as inputs or labels; found no arrays",
    "return {'a': x, 'labels': y}": "no array of inputs; found a, labels",
    "return x, y[:9]": "got 30 inputs and 9 labels",
    "return x, y - 1": r"got -1 for sample 0 \(10 such\)",
    "return x / 0, y": "sample 0 holds NaN or infinity",
    "return x.to_sparse(), y": "pass a dense one",
    "raise KeyError('k')": r"raised KeyError at data\.py, line 18 \('k'\); correct it",
    "raise SystemExit": r"raised SystemExit at data\.py, line 18",
    "return undefined": r"raised NameError at data\.py, line 18 \(name 'undefined'",
    "return [(x[0], 1), (x[0, :1], 1)]": r"first have \(2,\) and \(\), of another \(1,\) and \(\); resize or pad",
    "return [(x[0], 'cat')]": "label is str, not numbers",
    "return [x[0]]": "a sample is Tensor; give .input, label.",
    "return Dataset()": "the dataset has no length",
    "return []": "the dataset is empty",
    "return [{'x_train': x[0], 'y_train': 1}]": "a sample has keys of several parts",
    "return [([[1], [2, 3]], 1)]": "input is list of list, list, not numbers",
    "return x.to(torch.complex64), y": "are of type torch.complex64; pass real and imaginary parts",
    "return DataLoader(Items(), collate_fn=lambda items: 1 / 0)": "its collate_fn raised ZeroDivisionError",
    "return [{'x': x[0], 'y': 1}, {'x': x[0]}]": "no array of labels; found x",
    "return map(abs, [])": "got map; give",
}


@pytest.mark.parametrize(("body", "message"), FAULTS.items())
def test_faults_are_told_in_one_line(tmp_path: Path, body: str, message: str) -> None:
    source = write(tmp_path, body)
    with pytest.raises(ValueError, match=message) as refused:
        load_samples(source)
    assert str(refused.value).startswith(source)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("head", "name", "message"),
    [
        ("def data():", "other", "has no 'other'; write .* one of Items, Stream, data$"),
        ("def data(a, b=1):", "data", "needs arguments a; give a function"),
        ("def data(:", "data", r"line 17: "),
        ("class A(Items):\n    __getitem__ = lambda self, i: 1 / 0\ndata = A()\ndef f():", "data",
         r"sample \d+ raised ZeroDivisionError: "),
        ("class A(Stream):\n    __iter__ = lambda self: 1 / 0\ndata = A()\ndef f():", "data",
         "reading it raised ZeroDivisionError: "),
    ],
)  # fmt: skip
def test_faults_of_the_file_are_told_in_one_line(tmp_path: Path, head: str, name: str, message: str) -> None:
    source = write(tmp_path, "return x, y", head=f"{head}\n    ")
    with pytest.raises(ValueError, match=message) as refused:
        load_samples(f"{source.rpartition(':')[0]}:{name}")
    assert "\n" not in str(refused.value)


def test_files_and_modules_that_are_not_there(tmp_path: Path) -> None:
    for source, message in {
        f"{tmp_path}/none.py:data": "no such file; name a Python file and a function in it that gives data",
        "no_such_package.at_all:data": "no module named 'no_such_package'",
        "physcomp.networks.images:read_idx": "needs arguments path",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_samples(source)


@pytest.mark.parametrize("draw", ["np.random.rand(30, 2)", "[[random.random()] * 2 for _ in range(30)]"])
def test_a_function_that_draws_gives_the_same_data_to_each_command(draw: str, tmp_path: Path) -> None:
    """Or the test samples of one command would have served the choice of another; other draws go on as before."""
    source = tmp_path / "draws.py"
    source.write_text(
        f"import random\nimport numpy as np\ndef data():\n    return np.array({draw}), np.arange(30) % 3\n"
    )
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state = random.getstate()
    one, other = (load_samples(f"{source}:data", "test") for _ in range(2))
    assert isinstance(one.inputs, torch.Tensor)
    assert isinstance(other.inputs, torch.Tensor)
    assert torch.equal(one.inputs, other.inputs)
    assert random.getstate() == state
    drawn = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert drawn == np.random.rand()  # noqa: NPY002

"""Properties over random codes, networks, cards and budgets: what every strategy states is what it does."""

import dataclasses
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn

import devices
import physcomp
import qubo
from physcomp import codes
from physcomp.codes import Code, Encoded, Medium, fit_scales, parse
from physcomp.codes.adaptive import STREAM_BITS
from physcomp.codes.base import SCALE_BITS
from physcomp.codes.menu import DEFAULT, STRATEGIES
from physcomp.storage.measure import measure

# Cards of every kind: the ideal one, noise alone, drift, finite levels; read at once or later.
CARDS = [
    ("ideal", 0.0),
    ("pcm-zarcone:one-device", 0.0),
    ("pcm-zarcone:aligned", 0.0),
    ("pcm-nandakumar", 0.0),
    ("pcm-nandakumar", 86400.0),
    ("rram-multilevel:8-levels", 0.0),
]
NOISY = CARDS[1:]

# The grammar of codes: every kind with every option.
shares = st.sampled_from(["", "=5%", "=30%"])
signs = st.sampled_from([[], ["plain"], ["pair"]])
steps = st.sampled_from([[], ["levels=2"], ["levels=5"]])
ways = st.sampled_from([[], ["raw"]])
digital = st.sampled_from([1, 1.58, 2, 2.32, 3, 3.91, 8]).map(lambda bits: f"digital({bits})")
coded = st.sampled_from([1, 1.58, 2, 4, 8]).map(lambda bits: f"coded({bits})")
stepped = st.sampled_from([0.02, 0.25, 1, 4]).map(lambda ratio: f"stepped({ratio})")
codebook = st.sampled_from([1, 2, 4, 8]).map(lambda bits: f"codebook({bits})")


@st.composite
def analog(draw: st.DrawFn, sensitive: bool = True, by_magnitude: bool = True) -> str:
    options = draw(signs) + draw(steps) + draw(ways)
    cells = str(draw(st.integers(1, 3)))
    if sensitive and draw(st.booleans()):
        share = draw(shares)
        cells = draw(st.sampled_from(["2", "3"] if share else ["1.25", "2"]))
        options.append(f"sensitive{share}")
    if by_magnitude:
        options += draw(magnitudes())
    return f"analog({','.join([cells, *options])})"


@st.composite
def magnitudes(draw: st.DrawFn) -> list[str]:
    split = draw(st.sampled_from([[], ["split"], ["split=40%"]]))
    return split + draw(st.sampled_from([[], ["clip"], ["clip=10%"]]))


@st.composite
def hybrid(draw: st.DrawFn) -> str:
    numbers = [str(draw(st.integers(1, 4))), str(draw(st.integers(1, 2)))]
    return f"hybrid({','.join(numbers + draw(magnitudes()))})"


@st.composite
def mixed(draw: st.DrawFn, sensitive: bool = True) -> str:
    inner = st.one_of(digital, analog(sensitive=sensitive, by_magnitude=False), hybrid())
    return f"mixed({draw(inner)},{draw(inner)},{draw(st.sampled_from(['10%', '25%', '60%']))})"


@st.composite
def sparse(draw: st.DrawFn) -> str:
    inner = draw(st.one_of(digital, analog(sensitive=False), hybrid(), mixed(sensitive=False)))
    run = draw(st.sampled_from(["", ",2", ",7", ",9"]))
    return f"sparse({draw(st.sampled_from([10, 50, 75, 97]))},{inner}{run})"


every_code = st.one_of(
    st.sampled_from(["pruned", "float32"]), digital, coded, stepped, codebook, analog(), hybrid(), mixed(), sparse()
)
noisy_code = st.one_of(analog(), hybrid(), mixed(), sparse()).filter(lambda name: parse(name).analog_cells(20) > 0)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """A few groups, heavy-tailed, one of them perhaps all zero."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    rows = (generator.standard_t(4, (groups, size)) * 10.0 ** draw(st.integers(-3, 1))).astype(np.float32)
    if draw(st.booleans()):
        rows[-1] = 0
    return rows


def medium_of(card: tuple[str, float]) -> Medium:
    return Medium(devices.load_card(card[0]), card[1])


def importance_of(rows: np.ndarray) -> np.ndarray:
    return np.exp(np.random.default_rng(7).normal(0, 1.5, rows.shape))


def prepared(name: str, rows: np.ndarray, medium: Medium) -> tuple[Code, np.ndarray]:
    """The code with what it has to know of the rows, and its scales."""
    code, importance = parse(name), importance_of(rows)
    scales = fit_scales(code, rows, importance, medium)
    return code.writer(rows, importance, scales, medium), scales


def read_back(code: Code, encoded: Encoded, scales: np.ndarray, size: int, medium: Medium, seed: int = 0) -> np.ndarray:
    """What a reader, who knows the code's name alone, decodes from programmed cells."""
    cells = devices.program(medium.card, encoded.levels, seed=seed)
    read = Encoded(encoded.bits, cells.read(time_s=medium.written_for_s))
    return parse(code.name).decode(read, scales, size, medium)


def test_the_grammar_here_reaches_every_code_and_every_option_there_is() -> None:
    """A new code, or a new field of one, has to be added above to pass."""

    def concrete(kind: type) -> set[type]:
        found = {kind} if not inspect.isabstract(kind) else set()
        return found.union(*(concrete(child) for child in kind.__subclasses__() if child.__module__ in OURS))

    OURS = {f"physcomp.codes.{path.stem}" for path in Path(codes.__path__[0]).glob("*.py")}
    seen: dict[type, dict[str, set[object]]] = {}

    def note(code: Code) -> None:
        fields = seen.setdefault(type(code), {})
        for field in dataclasses.fields(code):  # type: ignore[arg-type]
            value = getattr(code, field.name)
            if isinstance(value, Code):
                note(value)
            elif field.name not in ("allocation", "book"):
                fields.setdefault(field.name, set()).add(value)

    @settings(max_examples=600, database=None, derandomize=True, deadline=None)
    @given(every_code)
    def collect(name: str) -> None:
        note(parse(name))

    collect()
    assert set(seen) == concrete(Code)
    for kind, fields in seen.items():
        for name, values in fields.items():
            assert len(values) > 1, f"{kind.__name__}.{name} has one value only"
    for name in {*DEFAULT, *(name for names in STRATEGIES.values() for name in names)}:
        assert type(parse(name)) in seen


@settings(max_examples=120, deadline=None)
@given(name=every_code, rows=weights(), card=st.sampled_from(CARDS))
def test_bits_and_cells_written_are_those_counted_and_all_of_them_have_a_purpose(
    name: str, rows: np.ndarray, card: tuple[str, float]
) -> None:
    medium = medium_of(card)
    code, scales = prepared(name, rows, medium)
    groups, size = rows.shape
    event(type(code).__name__)
    encoded = code.encode(rows, scales, medium)
    assert encoded.bits.size == code.written_bits(rows, scales)
    assert encoded.levels.shape == (groups, code.analog_cells(size))
    assert set(np.unique(encoded.bits)) <= {0, 1}
    assert encoded.levels.size == 0 or 0 <= encoded.levels.min() <= encoded.levels.max() <= 1
    tail = np.ones(40, np.uint8)  # whatever is stored behind
    assert code.stored_bits(np.concatenate([encoded.bits.ravel(), tail]), groups, size) == encoded.bits.size
    stated = float(code.costs(rows, scales, medium).sum())
    written = (encoded.bits.size + groups * code.scale_bits) / medium.bits_per_cell + encoded.levels.size
    slack = code.setup_bits / medium.bits_per_cell  # what a stream takes beside the information of its groups
    beside = 0 if code.setup_bits or not code.streams else STREAM_BITS / medium.bits_per_cell  # borne by the groups
    assert stated - beside - 1e-9 * stated <= written <= stated + slack + 1e-9 * stated
    assert code.scale_bits in (0, SCALE_BITS)
    if not code.streams:
        signs, masks = code.sign_bits(size), code.mask_bits(size)
        assert min(signs, masks) >= 0
        assert signs + masks <= code.digital_bits(size)
        assert code.cost(size, medium) * groups == pytest.approx(stated)
    assert parse(code.name) == parse(name)


@settings(max_examples=120, deadline=None)
@given(name=every_code, rows=weights())
def test_what_is_read_back_from_ideal_cells_is_the_stated_mean(name: str, rows: np.ndarray) -> None:
    medium = medium_of(("ideal", 0.0))
    code, scales = prepared(name, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    assert mean.shape == variance.shape == rows.shape
    assert np.all(variance == 0)
    back = read_back(code, code.encode(rows, scales, medium), scales, rows.shape[1], medium)
    # Levels and results are float32, each rounded by at most 2^-24 of the scale, doubled by `plain`.
    np.testing.assert_allclose(back, rows + mean, atol=4 * 2**-24 * float(np.abs(rows).max()) + 1e-30)


@settings(max_examples=80, deadline=None)
@given(name=noisy_code, rows=weights(), card=st.sampled_from(NOISY), seed=st.integers(0, 1 << 20))
def test_mean_and_variance_over_chips_are_the_stated_ones(
    name: str, rows: np.ndarray, card: tuple[str, float], seed: int
) -> None:
    medium, chips = medium_of(card), 300
    code, scales = prepared(name, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    encoded = code.encode(rows, scales, medium)
    copies = Encoded(np.tile(encoded.bits, (chips, 1)), np.tile(encoded.levels, (chips, 1)))
    back = read_back(code, copies, np.tile(scales, chips), rows.shape[1], medium, seed)
    error = back.astype(np.float64).reshape(chips, *rows.shape) - rows
    total = float(variance.sum())
    size = float(np.abs(rows).max()) + 1e-30
    # Sums over weights, each independent. 100 examples times 2 sums within 6 sd: 4e-7 if normal, and rare wrong
    # decisions, drift and 1/f noise have tails. Rounding of float32 and 2^22 counted cells leave the last terms.
    bias = float((error.mean(axis=0) - mean).sum())
    assert abs(bias) < 6 * math.sqrt(total / chips) + (1e-6 + 2e-4 * ("levels" in name)) * size * rows.size
    fourth = ((error - error.mean(axis=0)) ** 4).mean(axis=0).sum()
    spread = 7 * math.sqrt(float(fourth) / chips) + 0.02 * total
    assert abs(float(error.var(axis=0).sum()) - total) < spread + rows.size * (1e-6 * size) ** 2 + 0.01 * size**2


PARTS = ("digital", "analog", *(f"strategy:{name}" for name in STRATEGIES))


@st.composite
def networks(draw: st.DrawFn) -> tuple[physcomp.Network, physcomp.Images]:
    """A convolution and a linear layer of a few filters, random weights, and random images of 5 x 5 pixels."""
    channels, kernel, classes = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(2, 3))
    biased = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 1 << 20)))
    module = nn.Sequential(
        nn.Conv2d(1, channels, kernel, bias=biased),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, classes),
    )
    images = physcomp.Images(torch.rand(10, 1, 5, 5), torch.randint(0, classes, (10,)))
    return physcomp.wrap(module, "random"), images


@st.composite
def menus(draw: st.DrawFn) -> tuple[str, ...]:
    """Some digital codes, and some of two protection strategies."""
    wanted = draw(st.lists(st.sampled_from(sorted(STRATEGIES)), min_size=2, max_size=2, unique=True))
    names = ["pruned", *draw(st.lists(digital, min_size=1, max_size=2))]
    for strategy in wanted:
        names += draw(st.lists(st.sampled_from(STRATEGIES[strategy][:4]), min_size=1, max_size=2))
    return tuple(dict.fromkeys(parse(name).name for name in names))


def model_of(pair: tuple[physcomp.Network, physcomp.Images], card: tuple[str, float], menu: tuple[str, ...]):
    return physcomp.build_model(*pair, card=card[0], read_time_s=card[1], menu=menu)


def offered_or_none(model: physcomp.LossModel, budget: float, shrinkage: float, part: str) -> qubo.Selection | None:
    """The problem of a part of the menu; None where no code of it is there, or even its cheapest are too dear."""
    try:
        return model.selection(budget, shrinkage=shrinkage, part=part)
    except ValueError:
        return None


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    pair=networks(),
    card=st.sampled_from(NOISY),
    menu=menus(),
    share=st.floats(0.05, 1.0),
    shrinkage=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_the_joint_choice_never_has_more_energy_than_a_single_strategy_at_the_same_budget(
    pair: tuple[physcomp.Network, physcomp.Images],
    card: tuple[str, float],
    menu: tuple[str, ...],
    share: float,
    shrinkage: float,
) -> None:
    """The default solver against the proven optimum of every part of the menu, and against every code given to all.

    Naming one of many codes takes more bits than naming one of few. That is no part of a strategy, so the joint choice
    is given the cells that the strategy has for its weights. The default solver is a heuristic: the examples are the
    same on every run, so that one whose optimum it misses is not found now and then.
    """
    model = model_of(pair, card, menu)
    least, most = float(model.cost.min(axis=1).sum()), float(model.cost.max(axis=1).sum())
    budget = (least + share * (most - least) + sum(model.overhead(len(menu)).values())) / model.weights
    compared = 0
    for part in (*PARTS, *menu):
        offered = offered_or_none(model, budget, shrinkage, part)
        if offered is None:
            continue
        whole = model.selection(budget, shrinkage=shrinkage).with_budget(offered.budget)
        joint = qubo.solve(whole, seed=0)
        single = qubo.solve(offered, "exact", seed=0)
        assert joint.feasible
        assert joint.energy <= single.energy + 1e-6 * abs(single.energy) + 1e-12, part
        compared += 1
    assert compared  # pruned alone keeps to every budget


@settings(max_examples=15, deadline=None)
@given(
    pair=networks(),
    card=st.sampled_from(CARDS),
    names=st.lists(every_code, min_size=1, max_size=3),
    once=st.lists(st.one_of(coded, codebook), min_size=1, max_size=2),
    share=st.floats(0.0, 1.2),
)
def test_a_chosen_plan_never_takes_more_cells_than_its_budget(
    pair: tuple[physcomp.Network, physcomp.Images],
    card: tuple[str, float],
    names: list[str],
    once: list[str],
    share: float,
) -> None:
    """Whatever the menu, codes that a layer pays once among it; what such codes take is known before they are used."""
    model = model_of(pair, card, tuple(dict.fromkeys(parse(name).name for name in ("pruned", *names, *once))))
    fixed = sum(model.overhead(len(model.menu)).values())
    budget = (fixed + share * float(model.cost.max(axis=1).sum())) / model.weights + 1e-9
    selection = model.selection(budget)  # pruned alone keeps to every budget, whatever else is offered
    solution = qubo.solve(selection, seed=0)
    assert solution.feasible
    plan = physcomp.plan_of(model, solution.choice, method="all", shrinkage=1.0, budget=budget)
    assert plan.cells <= (selection.total_cost(solution.choice) + fixed) * (1 + 1e-9)
    assert plan.cells_per_weight <= budget * (1 + 1e-9)
    assert physcomp.store(pair[0], plan).bits.size <= plan.cells * plan.bits_per_cell * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(pair=networks(), card=st.sampled_from(CARDS), menu=menus(), names=st.lists(every_code, min_size=2, max_size=4))
def test_the_ledger_of_any_plan_is_what_its_chip_holds(
    pair: tuple[physcomp.Network, physcomp.Images], card: tuple[str, float], menu: tuple[str, ...], names: list[str]
) -> None:
    model = model_of(pair, card, tuple(dict.fromkeys((*menu, *(parse(name).name for name in names)))))
    choice = np.random.default_rng(len(menu)).integers(0, len(model.menu), len(model.loss))
    plan = physcomp.Plan.from_json(physcomp.plan_of(model, choice, method="any", shrinkage=0.0).to_json())
    chip = physcomp.store(pair[0], plan, seed=1)
    written = sum(plan.ledger[name] for name in ("digits", "signs", "masks", "scales", "setup", "biases", "others"))
    assert len(chip.bits) == pytest.approx(written * plan.bits_per_cell)
    assert chip.cells.levels.size == plan.ledger["analog"]
    assert min(plan.ledger.values()) >= 0
    state = chip.read_back()
    for number, layer in enumerate(model.layers):
        back = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)
        for group, index in enumerate(plan.layers[number].codes):
            code = model.menu[index]
            allocation = model.fits[number].allocations.get(code.name)
            allocated = None if allocation is None else allocation[group : group + 1]
            writer = code.given(allocated, model.fits[number].learned.get(code.name))
            row = model.rows_for(number, code)[group : group + 1]
            mean, variance = writer.error(row, model.scales[number][group : group + 1, index], model.medium)
            size = float(np.abs(row).max())
            # 40 sd: the tails of wrong decisions and drift; what is noiseless is exact but for float32.
            assert np.all(np.abs(back[group] - row - mean) <= 40 * np.sqrt(variance) + 1e-5 * size)


@settings(max_examples=10, deadline=None)
@given(pair=networks(), other=networks(), cards=st.lists(st.sampled_from(CARDS), min_size=2, max_size=2, unique=True))
def test_a_plan_refuses_every_other_network_and_card(
    pair: tuple[physcomp.Network, physcomp.Images],
    other: tuple[physcomp.Network, physcomp.Images],
    cards: list[tuple[str, float]],
) -> None:
    (network, images), (stranger, _) = pair, other
    plan = physcomp.uniform_plan(model_of(pair, cards[0], ("analog(1)", "digital(2)")), "analog(1)", shrinkage=0.0)
    uses = {
        "store": lambda network, card: physcomp.store(network, plan, card=card),
        "finetune": lambda network, card: physcomp.finetune(network, plan, images, heldout=images, epochs=1, card=card),
        "measure": lambda network, card: measure(network, plan, images, card=devices.load_card(card), seeds=[0]),
    }
    for use in uses.values():
        use(network, cards[0][0])
        if stranger.sha256 != network.sha256:
            with pytest.raises(ValueError, match=r"^plan: made for network random with sha256 [^\n]+; choose again"):
                use(stranger, cards[0][0])
        if cards[1][0] != cards[0][0]:
            with pytest.raises(ValueError, match=r"^plan: made for card [^\n]+ of other content; choose again"):
                use(network, cards[1][0])

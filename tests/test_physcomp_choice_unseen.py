"""Rows of tables that no sample looks up have a value; what is measured of the others stays as it is."""

import numpy as np
import pytest
import torch
from torch import nn

import physcomp
from physcomp.curvature.couplings import couplings
from physcomp.networks.survey import survey

TOKENS, SEEN, WIDTH = 20, 12, 6


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.last = nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.last(self.table(words).mean(1))


@pytest.fixture(scope="module")
def samples() -> physcomp.Samples:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(0, SEEN, (40, 5), generator=generator)
    return physcomp.Samples(words, torch.randint(0, 3, (40,), generator=generator))


@pytest.fixture(scope="module")
def model(samples: physcomp.Samples) -> physcomp.LossModel:
    network = physcomp.wrap(Bag(), samples=samples)
    return physcomp.build_model(network, samples, card="pcm-zarcone", menu=("pruned", "digital(2)", "analog(1)"))


def test_an_unseen_row_costs_the_mean_importance_times_its_squared_error(model: physcomp.LossModel) -> None:
    layer = model.layers[0]
    assert layer.looked_up
    importance = np.asarray(model.importances[0][:], np.float64)
    np.testing.assert_allclose(importance[SEEN:], importance[:SEEN].sum() / importance.size, rtol=1e-5)
    pruned = model.loss[:TOKENS, 0]
    wanted = importance.mean() / 2 * np.square(layer.rows[SEEN:].astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(pruned[SEEN:], wanted, rtol=1e-4)
    gram = model.couplings[0].grams[0]
    np.testing.assert_allclose(gram[range(TOKENS), 0, range(TOKENS), 0], 2 * pruned, rtol=1e-6)
    assert (model.loss[:TOKENS] > 0).all()  # also by the variance of analog cells


def test_rows_that_are_looked_up_are_as_measured(model: physcomp.LossModel, samples: physcomp.Samples) -> None:
    layers = survey(model.network, samples).layers
    pruned = [-layer.rows[:, :, None] for layer in layers]
    plain = couplings(model.network, layers, samples, pruned)[0]
    assert not plain.alone[SEEN:].any()
    np.testing.assert_allclose(2 * model.loss[:SEEN, 0], plain.alone[:SEEN, 0], rtol=1e-4)


def test_the_choice_keeps_tokens_that_calibration_missed(model: physcomp.LossModel) -> None:
    """At a budget for half of the table, unseen tokens are pruned about as often as seen ones, not first."""
    menu = [code.name for code in model.menu]
    plan = physcomp.choose(model, model.images, [1.0], search=physcomp.Search(shrinkages=(0.0,), parts=("digital",)))
    codes = plan.best(1.0).layers[0].codes
    kept = codes != menu.index("pruned")
    assert kept[SEEN:].any()
    assert not kept.all()

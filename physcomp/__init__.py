"""physcomp: a trained network on noisy analog memory cells, in as few of them as can be.

From a network to its chip:

    network = physcomp.load_network("data/fashion-cnn.toml")        # or physcomp.wrap(your_torch_module)
    images = physcomp.load_images("data/fashion-mnist", "calibration")
    model = physcomp.build_model(network, images, card="pcm-zarcone")
    choices = physcomp.choose(model, heldout, [1.0])
    plan = choices.best(1.0)
    chip = physcomp.store(network, plan, seed=0)
    parameters = chip.read_back()
"""

from physcomp.choice.joint import Choices, Search, choose
from physcomp.choice.loss_model import LossModel, build_model, build_models
from physcomp.choice.planning import plan_of, uniform_plan
from physcomp.networks.description import Described, describe, load_network
from physcomp.networks.evaluation import Score, evaluate, evaluate_state
from physcomp.networks.images import Images, load_images
from physcomp.networks.layers import layers_of
from physcomp.networks.network import Network, prepare, wrap
from physcomp.storage.chip import Chip, load_chip, store
from physcomp.storage.plan import Plan, moved
from physcomp.storage.recalibration import Recalibrated, recalibrate
from physcomp.training.alternation import Schedule, alternate
from physcomp.training.channel_removal import narrow
from physcomp.training.finetuning import Finetuned, finetune

__all__ = [
    "Chip",
    "Choices",
    "Described",
    "Finetuned",
    "Images",
    "LossModel",
    "Network",
    "Plan",
    "Recalibrated",
    "Schedule",
    "Score",
    "Search",
    "alternate",
    "build_model",
    "build_models",
    "choose",
    "describe",
    "evaluate",
    "evaluate_state",
    "finetune",
    "layers_of",
    "load_chip",
    "load_images",
    "load_network",
    "moved",
    "narrow",
    "plan_of",
    "prepare",
    "recalibrate",
    "store",
    "uniform_plan",
    "wrap",
]

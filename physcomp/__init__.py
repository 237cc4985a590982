"""physcomp: store a trained network on noisy analog memory cells, in as few cells as possible.

From a network to its chip:

    network = physcomp.load_network("data/fashion-cnn.toml")        # or physcomp.wrap(your_torch_module)
    images = physcomp.load_images("data/fashion-mnist", "calibration")
    model = physcomp.build_model(network, images, card="pcm-zarcone")
    choices = physcomp.choose(model, heldout, [1.0])
    plan = choices.best(1.0)
    chip = physcomp.store(network, plan, seed=0)
    parameters = chip.read_back()
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each is loaded on first use, so that what is not used costs no time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

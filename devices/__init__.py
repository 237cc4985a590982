"""devices: models of analog memory cells. Cards describe a cell; levels are programmed, age and are read back.

>>> import devices
>>> cells = devices.program("pcm-zarcone", [0.2, 0.8], seed=0)
>>> bool(abs(cells.read(time_s=0.0) - cells.levels).max() < 0.3)
True
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each is loaded on first use, so that what is not used costs no time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

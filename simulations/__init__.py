"""simulations: read networks back from cells, run studies, and draw their figures."""

import lazy_loader

# The names are listed in `__init__.pyi`; each is loaded on first use, so that what is not used costs no time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

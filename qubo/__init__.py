"""Choose one code per group within a budget of cells, and prove how good the choice is.

>>> import qubo
>>> problem = qubo.generate("Q", groups=40)
>>> solution = qubo.solve(problem, "annealer", seed=0)
>>> solution.feasible, solution.lower_bound <= solution.energy
(True, True)
"""

import lazy_loader

# The names are listed in `__init__.pyi`; each is loaded on first use, so that what is not used costs no time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

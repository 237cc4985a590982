# The names of this package; `__init__.py` loads each from its module on first use.
from .runs.readback import Spread as Spread
from .runs.readback import Trial as Trial
from .runs.readback import read_back as read_back
from .runs.readback import spread as spread
from .runs.study import Study as Study
from .runs.study import Target as Target
from .runs.study import load_study as load_study

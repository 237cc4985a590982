# The names of this package; `__init__.py` loads each from its module on first use.
from .kinds import KINDS as KINDS
from .kinds import load_study as load_study
from .kinds import run_study as run_study
from .runs.engine import report as report
from .runs.kind import Kind as Kind
from .runs.readback import Spread as Spread
from .runs.readback import Trial as Trial
from .runs.readback import read_back as read_back
from .runs.readback import spread as spread
from .runs.study import Study as Study
from .runs.study import StudyCard as StudyCard

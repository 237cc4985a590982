"""What the command line says that it does by default is what the library does by default."""

from physcomp.choice.joint import Search
from physcomp.curvature.gradients import MEMORY_BYTES
from physcomp.training.alternation import Schedule
from simulations.annealing.problems import AnnealingStudy
from simulations.commands import defaults
from simulations.commands.choose import bytes_of


def test_defaults_of_the_choice_and_of_training_are_the_library_s() -> None:
    assert (Search.solver, Schedule.epochs, Schedule.rounds) == (defaults.SOLVER, defaults.EPOCHS, defaults.ROUNDS)


def test_the_default_memory_is_that_of_the_loss_model() -> None:
    assert bytes_of(defaults.MEMORY) == MEMORY_BYTES


def test_defaults_of_the_annealing_study_are_the_study_s() -> None:
    fields = AnnealingStudy.model_fields
    owned = [fields[name].default for name in ("solvers", "budget", "shrinkage", "card")]
    assert owned == [
        defaults.COMPARED_SOLVERS, defaults.BUDGET, defaults.SHRINKAGE, defaults.CARD,
    ]  # fmt: skip

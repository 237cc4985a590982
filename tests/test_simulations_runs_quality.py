"""How metrics and losses of every task are written."""

from physcomp.networks.task import task_of
from simulations.runs.quality import heading, lost, shown, unit_of_loss


def test_metrics_are_written_as_the_task_has_them() -> None:
    classes, regression = task_of("classes"), task_of("regression")
    assert (heading(classes), heading(regression)) == ("accuracy ± sd %", "R² ± sd")
    assert (shown(classes, 0.5, 0.01, unit=False), shown(regression, 0.5, 0.01)) == ("50.00 ± 1.00", "0.5000 ± 0.0100")
    assert shown(regression, float("nan")) == "–"
    assert (lost(classes, 0.01), lost(regression, 0.01)) == ("1.00 points", "0.0100 of R²")
    assert (unit_of_loss(classes), unit_of_loss(regression)) == (" nats", "")

"""How the metric and the loss of a task are written: shares in percent, R² as a number."""

import math

from physcomp.networks.task import Own, Regression, Task


def in_percent(task: Task) -> bool:
    """Whether the task's metric is a share, which is written in percent."""
    return task.metric == "accuracy"


def axis_of(metric: str) -> str:
    """The metric in hundredths, as studies write it: `accuracy %`, or `R² × 100`."""
    return f"{metric} {'%' if metric == 'accuracy' else '× 100'}"


def label_of(metric: str) -> str:
    """The label of an axis of that: `accuracy after read-back (%)`."""
    return f"{metric} after read-back ({'%' if metric == 'accuracy' else '× 100'})"


def heading(task: Task) -> str:
    """The head of a column of the metric: `accuracy ± sd %` or `R² ± sd`."""
    return f"{task.metric} ± sd{' %' if in_percent(task) else ''}"


def shown(task: Task, mean: float, sd: float | None = None, *, unit: bool = True) -> str:
    """The metric as text, with its standard deviation if there is one; – where the task has none.

    >>> from physcomp.networks.task import task_of
    >>> shown(task_of("classes"), 0.934, 0.001), shown(task_of("regression"), 0.934)
    ('93.40 ± 0.10 %', '0.9340')
    """
    if math.isnan(mean):
        return "–"
    percent = in_percent(task)
    factor, digits = (100, 2) if percent else (1, 4)
    spread = "" if sd is None else f" ± {factor * sd:.{digits}f}"
    return f"{factor * mean:.{digits}f}{spread}{' %' if percent and unit else ''}"


def said(metric: str, value: float) -> str:
    """A metric as text, of which only the name is known.

    >>> said("accuracy", 0.934), said("R²", 0.9)
    ('93.40 %', 'R² 0.9000')
    """
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{metric} {value:.4f}"


def lost(task: Task, value: float) -> str:
    """A difference of the metric as text: in points (hundredths) for shares, else as it is."""
    return f"{100 * value:.2f} points" if in_percent(task) else f"{value:.4f} of {task.metric}"


def unit_of_loss(task: Task) -> str:
    """The unit of the loss with a space before it, or nothing where it is no cross-entropy."""
    return "" if isinstance(task, Regression | Own) else " nats"

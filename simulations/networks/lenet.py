"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86, 1998) in the form that compression papers use."""

from torch import nn


def lenet5(classes: int = 10) -> nn.Module:
    """LeNet-5 with ReLU and pooling by the maximum, all maps of one layer connected to all of the next.

    The paper has tanh, pooling by the mean and fewer connections. 61,706 parameters with 10 classes; grey images of
    28 x 28 pixels in [0, 1].
    """
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )

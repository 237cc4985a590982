"""Settings of finetuning."""

from dataclasses import dataclass

from physcomp.networks.plain_training import check_images
from physcomp.networks.samples import Samples


@dataclass(frozen=True)
class Recipe:
    """Settings of finetuning; all values are our choice.

    Args:
        batch: samples per step.
        learning_rate: the highest learning rate of Adam, for weights divided by the scale of their group.
        slow: factor on the learning rate for logarithms of scales, for biases and for other parameters.
        temperature: temperature of the distillation.
        distilled: weight of the distillation, 0 to 1; the task's loss has the rest. With 1 labels only say which
            outputs count.
        pruned: share of the steps after which sparse codes have dropped all weights that they do not keep.
        shift: largest shift, in pixels, of the copies of an image over which the teacher's output is averaged.
        mirrored: whether there are mirrored copies as well; wrong if mirror images belong to different classes, as
            with digits.
        bfloat16: whether matrix products are computed in bfloat16, twice as fast on processors that support it. A
            network that fails so, or gives other outputs (`physcomp.networks.passes`), is computed in float32.

    Raises:
        ValueError: a setting is outside its range.
    """

    batch: int = 125
    learning_rate: float = 1.6e-3
    slow: float = 0.25
    temperature: float = 1.0
    distilled: float = 0.8
    pruned: float = 0.35
    shift: int = 0
    mirrored: bool = False
    bfloat16: bool = True

    def __post_init__(self) -> None:
        for name, rule, holds in (
            ("batch", "at least 1", self.batch >= 1),
            ("learning_rate", "above 0", self.learning_rate > 0),
            ("slow", "at least 0", self.slow >= 0),
            ("temperature", "above 0", self.temperature > 0),
            ("distilled", "0 to 1", 0 <= self.distilled <= 1),
            ("pruned", "0 to 1", 0 <= self.pruned <= 1),
            ("shift", "at least 0", self.shift >= 0),
        ):
            if not holds:
                raise ValueError(f"recipe: {name} is {rule}, got {getattr(self, name)}; change it")

    @property
    def copies(self) -> int:
        """Number of copies of an image over which the teacher's output is averaged; 1 is the image alone."""
        return (2 * self.shift + 1) ** 2 * (1 + self.mirrored)

    def check(self, samples: Samples) -> None:
        """Check that samples can be shifted and mirrored, if that is asked for.

        Raises:
            ValueError: they are no images, or too small for the shift.
        """
        if self.copies > 1:
            check_images(samples, self.shift, "use shift=0 and mirrored=False")

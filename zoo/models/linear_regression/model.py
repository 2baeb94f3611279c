"""Linear regression: one Linear layer."""

import numpy as np
from numpy.typing import ArrayLike

from ....core import Linear, Tensor, no_grad
from ...errors import InputError
from ...interface.applying import Interface
from ...registry import register


@register("linear-regression")
class LinearRegression(Linear):
    """A plane fitted through points: y = x @ weight.T + bias."""

    def __init__(self, in_features: int = 2, out_features: int = 1):
        super().__init__(in_features, out_features)

    @property
    def interface(self) -> Interface:
        """What turns the numbers of a point into the input. The output is the answer."""
        fields = ({"name": "point", "kind": "numbers", "length": self.in_features, "steps": []},)
        return Interface(("batch", "coordinate"), ("batch", "value"), fields)

    def predict(self, *inputs: ArrayLike) -> np.ndarray:
        """Return the value at each point: predict(3, 4), predict([3, 4]), or an array (N, in_features) for N points.

        Returns (out_features,) for one point, (N, out_features) for an array of points. Numbers may be text.
        Raises InputError if a point does not have in_features finite numbers.
        """
        try:
            points = np.asarray(inputs[0] if len(inputs) == 1 else inputs, dtype=self.weight.dtype)
        except (ValueError, TypeError):
            raise InputError(f"A point must be {self.in_features} numbers, such as 3 4, not {inputs!r}.") from None
        if not np.isfinite(points).all():
            raise InputError(f"A point must be {self.in_features} finite numbers, such as 3 4, not {inputs!r}.")
        if points.ndim not in (1, 2) or points.shape[-1] != self.in_features:
            raise InputError(
                f"A point must be {self.in_features} numbers, such as 3 4, not an array of shape {points.shape}."
            )
        with no_grad():
            return self(Tensor(points)).data

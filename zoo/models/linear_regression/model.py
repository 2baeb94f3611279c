"""Linear regression: one Linear layer."""

import numpy as np
from numpy.typing import ArrayLike

from ....core import Linear, Tensor, no_grad
from ...errors import InputError
from ...registry import register


@register("linear-regression")
class LinearRegression(Linear):
    """A plane fitted through points: y = x @ weight.T + bias."""

    def __init__(self, in_features: int = 2, out_features: int = 1):
        super().__init__(in_features, out_features)

    def predict(self, *inputs: ArrayLike) -> np.ndarray:
        """The value at each point: predict(3, 4), predict([3, 4]), or an array (N, in_features) for N points.

        Returns (out_features,) for one point, (N, out_features) for an array of them. Numbers may be text.
        Raises InputError if there are not in_features numbers in a point.
        """
        try:
            points = np.asarray(inputs[0] if len(inputs) == 1 else inputs, dtype=self.weight.dtype)
        except (ValueError, TypeError):
            raise InputError(f"a point is {self.in_features} numbers, such as 3 4; got {inputs!r}") from None
        if not np.isfinite(points).all():
            raise InputError(f"a point is {self.in_features} finite numbers, such as 3 4; got {inputs!r}")
        if points.ndim not in (1, 2) or points.shape[-1] != self.in_features:
            raise InputError(f"a point is {self.in_features} numbers, such as 3 4; got shape {points.shape}")
        with no_grad():
            return self(Tensor(points)).data

"""SimpleMLP: three linear layers with ReLU between them, optionally with batch norm and dropout."""

from ....core import BatchNorm1d, Dropout, Linear, Module, ReLU, Sequential, Tensor
from ...data.images import CLASS_PROBABILITIES, DigitPrediction, classify, image_field, parse_image
from ...interface.applying import Interface
from ...registry import register


@register("simple-mlp")
class SimpleMLP(Module):
    """A multilayer perceptron: in_dim -> hidden_dim -> hidden_dim -> out_dim.

    SimpleMLP(784, 128, 10) has 118,282 parameters. batch_norm puts a BatchNorm1d before each ReLU; dropout > 0 puts a
    Dropout after it.
    """

    def __init__(
        self, in_dim: int = 64, hidden_dim: int = 128, out_dim: int = 10, batch_norm: bool = False, dropout: float = 0.0
    ):
        super().__init__()
        layers: list[Module] = []
        for width_in, width_out in ((in_dim, hidden_dim), (hidden_dim, hidden_dim)):
            layers.append(Linear(width_in, width_out))
            if batch_norm:
                layers.append(BatchNorm1d(width_out))
            layers.append(ReLU())
            if dropout:
                layers.append(Dropout(dropout))
        self.layers = Sequential(*layers, Linear(hidden_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (N, in_dim) -> (N, out_dim)

    @property
    def interface(self) -> Interface:
        """What turns an image into the input, and the output into an answer."""
        fields = (image_field(self._side, "flatten"),)
        return Interface(("batch", "pixel"), ("batch", "class"), fields, CLASS_PROBABILITIES)

    def predict(self, image: object) -> list[DigitPrediction]:
        """Return every class with its probability, the likeliest first. image: see `parse_image`."""
        return classify(self, self.interface.preprocessing, parse_image(image, self._side))

    @property
    def _side(self) -> int:
        return round(self.layers[0].in_features ** 0.5)

"""The whole state of a training: what to save so that it continues as if it had never stopped."""

from .loading import load_training as load_training
from .saving import save_training as save_training
from .saving import training_state as training_state

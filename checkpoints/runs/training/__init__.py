"""Full training state, so that a training continues as if it had never stopped."""

from .loading import load_training as load_training
from .saving import save_training as save_training
from .saving import training_state as training_state

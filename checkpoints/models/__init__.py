"""Saving a model of any framework, and loading a file into one. adapters/ has what differs between frameworks."""

from .adapters import Adapter as Adapter
from .adapters import adapter_of as adapter_of
from .adapters import find_adapter as find_adapter
from .adapters import register_adapter as register_adapter
from .adapters import state_of as state_of
from .loading import ModelLoad as ModelLoad
from .loading import load_model as load_model
from .loading import plan_model as plan_model
from .saving import save_model as save_model

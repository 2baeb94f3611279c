"""The checkpoints of a run in one folder: `History` and the types it returns."""

from .history import History as History
from .intact import DamagedWarning as DamagedWarning
from .log import Record as Record
from .retention import Saved as Saved

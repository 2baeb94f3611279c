"""The claim on a folder that one call at a time writes into: a training's, or a publisher's."""

from pathlib import Path

from ....checkpoints.errors import LockedError
from ....checkpoints.storage.locks import WAIT_S, locked
from ...errors import RunError


class claim(locked):  # used as a function
    """Hold the lock of a folder during a `with` block, once: a call inside the block is refused.

    what: what the calls do, for the errors, such as "training into". Raises RunError if another thread or process has
    the lock after wait_s, or if this thread has it already, because a callback or a signal handler calls again.
    """

    def __init__(self, folder: Path, what: str, wait_s: float = WAIT_S) -> None:
        super().__init__(folder, wait_s)
        self._doing = f"{what} {folder}"

    def __enter__(self) -> bool:
        try:
            is_locked = super().__enter__()
        except LockedError as error:
            raise RunError(
                f"Another process is {self._doing}. Wait for it, or choose another folder.\n{error}"
            ) from None
        if self.is_nested:
            self._release()
            raise RunError(
                f"This call runs inside another one that is {self._doing}, in a callback or a signal handler. "
                "Wait until that one has ended, or choose another folder."
            )
        return is_locked

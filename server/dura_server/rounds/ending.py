"""How the process of a study ends in order: one signal becomes one exception, and its log tells what happened."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dura_common.runtime.files import private_folder

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ended(BaseException):
    """The process was told to end. No error of the study: nothing may catch it on the way but who ends the study."""


class _End:
    """Turns the first signal into :class:`Ended`; the later ones find the end on its way."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self._told:
            self._told = True
            raise Ended

    def accept(self) -> None:
        """Let nothing interrupt the end any more."""
        self._told = True


@contextmanager
def ended_in_order() -> Iterator[_End]:
    """Turn a request to end the process into :class:`Ended` for the length of a block.

    Flower's own handler would end the process at once, and no site would hear that its session is over.
    """
    end = _End()
    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_to(path: Path) -> Iterator[None]:
    """Write what is logged in a block to a file as well: Flower keeps a ServerApp's output out of every log file."""
    private_folder(path.parent)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("dura_server")
    ours.addHandler(handler)
    level = ours.level
    ours.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()

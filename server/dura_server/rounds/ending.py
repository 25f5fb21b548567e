"""Ends the process of a study in an orderly way: one signal becomes one exception, and the log says what happened."""

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
    """The process was told to end. This is no error of the study: only the code that ends the study may catch it."""


class _End:
    """Turns the first signal into :class:`Ended`, and ignores later signals."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self._told:
            self._told = True
            raise Ended

    def accept(self) -> None:
        """From now on, let nothing interrupt the end."""
        self._told = True


@contextmanager
def ended_in_order() -> Iterator[_End]:
    """During a block, turn a request to end the process into :class:`Ended`.

    Flower's own handler would end the process at once, and no site would learn that its session is over.
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
    """During a block, also write the log to a file, because Flower writes a ServerApp's output to no log file."""
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

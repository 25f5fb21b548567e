"""A bell between two processes of one account: who waits for work is woken, and need not ask again and again.

It is a named pipe that only its owner may open. A ring that nobody hears is lost, so whoever waits asks by itself from
time to time, too.
"""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from pathlib import Path

_MANY = 65_536
NOW, SOON = b"!", b"."
"""There is work; there will be work soon."""


class Bell:
    """The end at which somebody waits; the file stays for the next one who does.

    Args:
        path: where; its folder is private.

    Raises:
        OSError: there is something else, or the file system has no pipes.
    """

    def __init__(self, path: Path) -> None:
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Open for writing, too: a pipe whose last writer leaves would look readable for ever.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(self._pipe).st_mode):
            os.close(self._pipe)
            raise OSError(f"{path} is not a pipe")

    def fileno(self) -> int:
        """Return the descriptor, which is readable after a ring."""
        return self._pipe

    def rung(self, seconds: float = 0.0) -> bool:
        """Wait for a ring, at most so long; return whether there was one. It stays for :meth:`wait`."""
        ready, _, _ = select.select([self._pipe], [], [], seconds)
        return bool(ready)

    def wait(self, seconds: float) -> frozenset[bytes]:
        """Wait for a ring, at most so long; return what was rung, also before: words, or nothing."""
        return self.hush() if self.rung(seconds) else frozenset()

    def hush(self) -> frozenset[bytes]:
        """Forget all rings so far, and return what was rung."""
        heard: set[bytes] = set()
        part = bytes(_MANY)
        with suppress(BlockingIOError):
            while len(part) == _MANY:
                part = os.read(self._pipe, _MANY)
                heard |= {word for word in (NOW, SOON) if word in part}
        return frozenset(heard)

    def close(self) -> None:
        """Stop waiting here."""
        os.close(self._pipe)


def ring(path: Path, word: bytes = NOW) -> None:
    """Wake whoever waits at a bell; nothing happens if nobody does. ``word`` is :data:`NOW` or :data:`SOON`."""
    with suppress(OSError):  # nobody waits, or the pipe is full of rings
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.write(pipe, word)
        finally:
            os.close(pipe)

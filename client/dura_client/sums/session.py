"""Secure sums for the training code: it provides vectors and gets sums over sites. Nothing else leaves.

    params = ...                                     # SessionParameters from the approved study, all members in it
    with SumSession(home, params, redraw=redraw) as sums:
        for _ in range(params.steps):
            opened = sums.step(vector)               # int64 (length,); the ledger has already paid for it
            use(opened.total, opened.contributors)

- Entering the block starts a thread that connects and agrees on keys. ``wait`` waits until the members have verified
  each other: a vector that is drawn only then is not drawn for a session that does not come about.
- ``step`` waits for the other sites, limited by ``patience``. It raises :class:`SumFailed` (host) if the session ended,
  :class:`~dura_common.secagg.Abort` (trust) if another party broke the protocol, and all errors of ``redraw``. After an
  error, the session is over, and everything that was sent counts as spent.
- A vector leaves only once. If a site is lost and the vector's sum can no longer be opened, ``redraw`` is called with a
  :class:`Redraw`, in the thread of ``step``. It charges the ledger, draws a new sample and new noise, and returns the
  new vector. Without ``redraw``, :class:`FreshDrawNeeded` is raised.
- ``opened.contributors`` can be fewer than the members: divide by the declared patients of exactly these sites.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dura_client.site.home import SiteHome
from dura_client.sums.driver import Answer, Driver, Patience, Redraw, SumFailed, Wanted
from dura_client.sums.link import Endpoint
from dura_client.sums.ports import Peers
from dura_common.errors import DuraError, StateError
from dura_common.secagg import Opened, SessionParameters
from dura_common.sums.attempts import Series

__all__ = ["Endpoint", "FreshDrawNeeded", "Opened", "Patience", "Redraw", "SumFailed", "SumSession"]

Vector = NDArray[np.signedinteger]
LOOK_SECONDS = 1.0
CLOSE_SECONDS = 10.0


class FreshDrawNeeded(StateError):
    """A sum was lost after this site's vector had left; the caller has no ``redraw``. The session is over.

    Attributes:
        redraw: the draw that would have been needed.
    """

    def __init__(self, redraw: Redraw) -> None:
        super().__init__("a site was lost after this site's vector had left; a fresh draw would be needed")
        self.redraw = redraw


class SumSession:
    """One session of secure sums at this site; a context manager, for one thread.

    Args:
        home: the site's folder: address, certificate and keys are read from it.
        params: the session with all its members, from the approved study and never from a message.
        sums: number of round sums over the same stream; for step sums, ``params`` contains this number.
        redraw: returns another vector, newly drawn and paid for; see the module.
        peers: the exchange between the members, except vectors; nothing by default.
        patience: how long this site waits.
        address: of a relay that passes TLS on, in place of the roster's address.

    Raises:
        StateError: the site has not joined.
        TrustError: the roster or a certificate was altered or has expired.
        ValueError: this site is no member of the session.
    """

    def __init__(
        self,
        home: SiteHome,
        params: SessionParameters,
        *,
        sums: int | None = None,
        redraw: Callable[[Redraw], Vector] | None = None,
        peers: Peers | None = None,
        patience: Patience | None = None,
        address: str | None = None,
    ) -> None:
        endpoint = Endpoint.of_site(home, datetime.now(UTC), address=address)
        if endpoint.site not in params.names:
            raise ValueError(f"{endpoint.site} is no member of the session")
        self._params = params
        self._series = Series.of(params, sums)
        self._redraw = redraw
        self._driver = Driver(endpoint, self._series, patience or Patience(), peers)
        self._opened = 0

    def __enter__(self) -> Self:
        self._driver.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._driver.finish()
        self._driver.join(CLOSE_SECONDS)

    def wait(self) -> None:
        """Wait until the members have verified each other; what is drawn before that may be drawn for nothing.

        Raises:
            SumFailed: the session ended before that.
            Abort: the protocol was broken.
        """
        while not isinstance(answer := self._answer(), Wanted):
            if isinstance(answer, DuraError):
                raise answer

    def step(self, vector: Vector) -> Opened:
        """Add this site's vector (int32 or int64, (length,)) to the next sum and return the opened sum.

        Raises:
            ValueError: another shape or type.
            RuntimeError: all sums of the session are opened.
            SumFailed: the session ended early.
            Abort: the protocol was broken.
            FreshDrawNeeded: see the module.
        """
        if self._opened == self._series.sums:
            raise RuntimeError("all sums of this session are opened")
        self._give(vector)
        while True:
            answer = self._answer()
            if isinstance(answer, DuraError):
                raise answer
            if isinstance(answer, Opened):
                self._opened += 1
                return answer
            if isinstance(answer, Wanted):
                continue
            if self._redraw is None:
                self._driver.finish()
                raise FreshDrawNeeded(answer)
            self._give(self._redraw(answer))

    def _give(self, vector: Vector) -> None:
        if vector.shape != (self._params.length,) or vector.dtype not in (np.int32, np.int64):
            raise ValueError(f"expected an int32 or int64 vector of shape ({self._params.length},)")
        self._driver.give(self._opened, vector.copy())

    def _answer(self) -> Answer:
        while True:
            try:
                return self._driver.answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not self._driver.is_alive() and self._driver.answers.empty():
                    raise SumFailed("CANCELLED", "the secure sum is over at this site") from None

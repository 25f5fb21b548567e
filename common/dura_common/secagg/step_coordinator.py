"""The coordinator's side of step sums, which need all sites. It sees masked vectors and their sum."""

from __future__ import annotations

from dura_common.secagg import wire
from dura_common.secagg.abort import Abort
from dura_common.secagg.coordinator import Coordinator, Progress
from dura_common.secagg.params import SessionParameters
from dura_common.secagg.ring import from_words
from dura_common.secagg.site import Opened
from dura_common.secagg.wire import Frame, Type


class StepCoordinator(Coordinator):
    """See :class:`~dura_common.secagg.coordinator.Coordinator`."""

    def __init__(self, params: SessionParameters) -> None:
        super().__init__(params)
        self._keys: dict[int, bytes] = {}
        self._agreed = False
        self._step = params.first_step

    @property
    def step(self) -> int:
        """The step that is expected now."""
        return self._step

    def _take(self, index: int, frame: Frame) -> None:
        if self._agreed:
            self._expect(frame, Type.MASKED, self._step)
            self._add(frame)
        else:
            self._expect(frame, Type.ADVERTISE, 0)
            self._keys[index] = b"".join(wire.parts(frame.body, wire.KEY, self.params.note_size, wire.SIGNATURE))

    def _drop(self, index: int, cause: Abort) -> Progress:
        del index  # no sum can be opened without this site, whichever it is
        raise self._end(cause)

    def _advance(self) -> Progress:
        if self._waiting:
            return Progress()
        everybody = set(range(len(self.params.members)))
        self._waiting = set(everybody)
        if not self._agreed:
            self._agreed = True
            return Progress(self._broadcast(everybody, Type.KEYS, wire.encode_items(self._keys)))
        try:
            opened = Opened(self._step, from_words(self._sum), self.params.names)
        except Abort as abort:
            raise self._end(abort) from None
        outgoing = self._to(everybody, self._opened_frame)
        self._step += 1
        if self._step == self.params.first_step + self.params.steps:
            self._erase()
        else:
            self._begin_sum(self._step)
        return Progress(outgoing, opened)

"""The common part of the site for both kinds of sums: the protection of secrets, and the reactions for the caller."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from dura_common.secagg import wire
from dura_common.secagg.abort import Abort, Reason, reason_of
from dura_common.secagg.arithmetic.masks import Words, word_type
from dura_common.secagg.params import SessionParameters
from dura_common.secagg.ring import fill_words
from dura_common.secagg.wire import Frame, Type

T = TypeVar("T")
Heard = Callable[[Mapping[str, bytes]], None]
"""Judges the notes of the other members; an error that it raises ends the session."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened sum, which everybody sees."""

    step: int
    total: NDArray[np.int64]
    """int64 (length,)."""
    contributors: tuple[str, ...]
    """The sites whose vectors are in the sum."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """The result of one frame."""

    reply: bytes | None = field(default=None, repr=False)
    """The frame to send back."""
    ready: bool = False
    """Whether :meth:`Site.mask` may be called now."""
    opened: Opened | None = None


class Site(ABC):
    """One site's side of one session. Bytes in, bytes out; no clock, no network, no file.

    Call ``advertise`` once, then ``receive`` for every frame from the coordinator. When a reaction says ``ready``, call
    ``mask`` once. Every fault raises :class:`Abort`, erases the secrets and ends the object permanently. Secrets appear
    in no representation, and the object cannot be copied or pickled.

    Args:
        params: built from the approved study, never from a message.
        name: this site.
        identity: the site's Ed25519 key, whose public half ``params`` pins.
        note: what this site says to all members, signed with its keys, ``params.note_size`` bytes; zeros by default.
        heard: judges what the others say, before anything but this site's own keys has left.

    Raises:
        ValueError: not a member, another key than the pinned one, or a note of another length.
    """

    def __init__(
        self,
        params: SessionParameters,
        name: str,
        identity: Ed25519PrivateKey,
        note: bytes | None = None,
        heard: Heard | None = None,
    ) -> None:
        said = bytes(params.note_size) if note is None else note
        if len(said) != params.note_size:
            raise ValueError(f"a note has {params.note_size} bytes in this session")
        self.params = params
        self.index = params.index(name)
        if identity.public_key().public_bytes_raw() != params.members[self.index].identity:
            raise ValueError("the identity key is not the one that the session's roster pins for this site")
        self._identity: Ed25519PrivateKey | None = identity
        self._note = said
        self._heard = heard
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the session is over, opened or aborted."""
        return self._ended

    def advertise(self) -> bytes:
        """Return the first frame: this session's public keys, signed."""
        return self._guarded(self._advertise)

    def receive(self, content: bytes | memoryview) -> Reaction:
        """React to a frame from the coordinator.

        Raises:
            Abort: the frame is not the expected one, or something in it is not valid.
        """
        return self._guarded(lambda: self._react(self._part(content)))

    def mask(self, values: NDArray[np.signedinteger]) -> memoryview:
        """Return the frame with this site's masked vector (int32 or int64, (length,)) for the current step.

        Raises:
            Abort: the call is out of turn (above all: a second vector for the same masks), or a value does not fit.
            ValueError: the vector has another length or type.
        """
        if values.shape != (self.params.length,) or values.dtype not in (np.int32, np.int64):
            raise ValueError(f"the session's vectors are int32 or int64 of length {self.params.length}")
        return self._guarded(lambda: self._mask(values))

    def leave(self) -> bytes:
        """End the session, erase the secrets, and return the frame that tells the coordinator."""
        self._finish()
        return self._frame(Type.ABORT, 0, bytes([Reason.LOST]))

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or written anywhere."""
        raise TypeError("a session holds secrets and cannot be copied or pickled")

    def __repr__(self) -> str:
        """Return a text without secrets."""
        return f"<{type(self).__name__} of {self.params.names[self.index]}, {'ended' if self._ended else 'open'}>"

    @abstractmethod
    def _advertise(self) -> bytes: ...

    @abstractmethod
    def _react(self, frame: Frame) -> Reaction: ...

    @abstractmethod
    def _mask(self, values: NDArray[np.signedinteger]) -> memoryview: ...

    @abstractmethod
    def _erase(self) -> None: ...

    def _guarded(self, act: Callable[[], T]) -> T:
        if self._ended:
            raise Abort(Reason.OUT_OF_TURN, "the session is over")
        try:
            return act()
        except BaseException as error:
            self._finish()
            _forget_frames(error)
            raise

    def _finish(self) -> None:
        self._erase()
        self._ended = True

    def _part(self, content: bytes | memoryview) -> Frame:
        frame = wire.decode(content)
        if frame.session != self.params.session_id:
            raise Abort(Reason.MALFORMED, "a frame belongs to another session")
        if frame.type is Type.ABORT:
            (code,) = wire.parts(frame.body, 1)
            reason = reason_of(code[0])
            raise Abort(reason, f"the coordinator ended the session ({reason.name.lower().replace('_', ' ')})")
        return frame

    def _frame(self, kind: Type, step: int, body: bytes) -> bytes:
        return wire.encode(kind, self.params.session_id, step, body)

    def _vector(self, step: int, values: NDArray[np.signedinteger]) -> tuple[memoryview, Words]:
        """Return the frame of a vector, and the words in it that must be masked before the frame is sent."""
        kind = word_type(self.params.ring_bits)
        size = (self.params.length + wire.CHECK_WORDS) * kind.itemsize
        frame, body = wire.open_frame(Type.MASKED, self.params.session_id, step, size)
        words = np.frombuffer(body, dtype=kind)
        fill_words(words, values, len(self.params.members))
        return frame, words

    def _hear(self, notes: Mapping[int, bytes]) -> None:
        """Have the notes of the other members judged; their signatures are valid."""
        if self._heard is not None:
            self._heard({self.params.names[index]: note for index, note in notes.items() if index != self.index})

    def _expect(self, frame: Frame, kind: Type, step: int) -> None:
        if (frame.type, frame.step) != (kind, step):
            raise Abort(
                Reason.OUT_OF_TURN,
                f"expected {kind.name} of step {step}, got {frame.type.name} of step {frame.step}",
            )

    def _enough(self, count: int) -> None:
        if count < self.params.needed:
            raise Abort(Reason.TOO_FEW, f"{count} sites are left of the {self.params.needed} that the study demands")


def _forget_frames(error: BaseException | None) -> None:
    """Clear the stack frames of an error: errors are kept and printed, and these frames held keys."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__

"""A site's side of step sums: keys once, then one message to the coordinator for each step, all or nothing.

1. every member advertises a fresh signed key, and all members must take part;
2. for each step, the mask with each peer is keyed by the pair's key, the step and the digest of the list of keys and
   of all sums before, so sites that were told different lists or sums have masks that do not cancel, and nothing opens;
3. the opened sum ends the step; a second vector for the same masks is refused.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from dura_common.secagg import keys, wire
from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic.masks import add_masks, word_type
from dura_common.secagg.params import Kind, SessionParameters
from dura_common.secagg.ring import from_words
from dura_common.secagg.site import Heard, Opened, Reaction, Site
from dura_common.secagg.wire import Frame, Type

KEY_USE = b"step key"
MASK_USE = b"step"


class StepSite(Site):
    """See :class:`~dura_common.secagg.site.Site`."""

    def __init__(
        self,
        params: SessionParameters,
        name: str,
        identity: Ed25519PrivateKey,
        note: bytes | None = None,
        heard: Heard | None = None,
    ) -> None:
        if params.kind is not Kind.STEP:
            raise ValueError("the session is not one of step sums")
        super().__init__(params, name, identity, note, heard)
        self._key: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._pairs: dict[int, bytes] = {}
        self._step = params.first_step
        self._last = params.first_step + params.steps - 1
        self._chain = b""
        self._awaits: Type | None = None
        """The frame that is expected now; None while this side must act."""

    def _advertise(self) -> bytes:
        if self._key is None or self._awaits is not None or self._pairs:
            raise Abort(Reason.OUT_OF_TURN, "the keys were advertised already")
        self._awaits = Type.KEYS
        said = keys.public_bytes(self._key) + self._note
        return self._frame(Type.ADVERTISE, 0, said + self._sign(said))

    def _sign(self, content: bytes) -> bytes:
        if self._identity is None:
            raise Abort(Reason.OUT_OF_TURN, "the session is over")
        return keys.sign(self._identity, KEY_USE, self.params, self.index, content)

    def _react(self, frame: Frame) -> Reaction:
        if self._awaits is Type.KEYS:
            self._expect(frame, Type.KEYS, 0)
            return self._agree(frame)  # step 1; step 2 is the vector, see _mask
        if self._awaits is Type.OPENED:
            self._expect(frame, Type.OPENED, self._step)
            return self._open(frame)  # step 3
        raise Abort(Reason.OUT_OF_TURN, f"{frame.type.name} came while nothing was awaited")

    def _agree(self, frame: Frame) -> Reaction:
        """Check everybody's key and derive the pairs' keys."""
        said = wire.KEY + self.params.note_size
        found = wire.decode_items(frame.body, said + wire.SIGNATURE, len(self.params.members))
        self._enough(len(found))
        publics = {index: item[: wire.KEY] for index, item in found.items()}
        if self._key is None or publics.get(self.index) != keys.public_bytes(self._key):
            raise Abort(Reason.NOT_AUTHENTIC, "the list of keys does not hold this site's own")
        if len(set(publics.values())) != len(publics):
            raise Abort(Reason.INCONSISTENT, "two members have the same key")
        keys.check(self.params, KEY_USE, {index: (item[:said], item[said:]) for index, item in found.items()})
        self._hear({index: item[wire.KEY : said] for index, item in found.items()})
        self._pairs = {
            index: keys.pair_key(keys.agree(self._key, public), self.params, KEY_USE, *sorted((self.index, index)))
            for index, public in publics.items()
            if index != self.index
        }
        self._chain = hashlib.sha256(frame.body).digest()
        self._key = self._identity = None  # not needed any more, so not kept
        self._awaits = None
        return Reaction(ready=True)

    def _mask(self, values: NDArray[np.signedinteger]) -> memoryview:
        if self._awaits is not None or not self._pairs:
            raise Abort(Reason.OUT_OF_TURN, "a vector has its place once in each step, after the keys")
        frame, words = self._vector(self._step, values)
        context = (self._step.to_bytes(4, "big"), self._chain)
        masks = {index: keys.mask_key(pair, MASK_USE, *context) for index, pair in self._pairs.items()}
        add_masks(
            words,
            plus=[key for index, key in masks.items() if index > self.index],
            minus=[key for index, key in masks.items() if index < self.index],
        )
        self._awaits = Type.OPENED
        return frame

    def _open(self, frame: Frame) -> Reaction:
        kind = word_type(self.params.ring_bits)
        if len(frame.body) != (self.params.length + wire.CHECK_WORDS) * kind.itemsize:
            raise Abort(Reason.MALFORMED, "an opened sum has another length than the study's")
        total = from_words(np.frombuffer(frame.body, dtype=kind))
        opened = Opened(self._step, total, self.params.names)
        chain = hashlib.sha256(self._chain)
        chain.update(frame.body)
        self._chain = chain.digest()
        self._awaits = None
        self._step += 1
        if self._step > self._last:
            self._finish()
            return Reaction(opened=opened)
        return Reaction(opened=opened, ready=True)

    def _erase(self) -> None:
        self._key = self._identity = None
        self._pairs = {}

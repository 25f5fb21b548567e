"""A site's side of a round sum (Bonawitz et al. 2017, figure 4, active adversary, complete graph).

1. ADVERTISE: two fresh signed keys, one for sealing shares and one for masks, and a note to the other sites; KEYS
   delivers those of the other sites (U1);
2. SHARES: the seed of the self-mask and the masking key, split among U1 and sealed for each holder, with a commitment
   to the seed; SEALED_SHARES delivers those of the other sites (U2);
3. MASKED: the vector under the self-mask and the masks that this site shares with every other site in U2;
4. SURVIVORS names the sites whose vectors arrived (U3); CONFIRM signs the keys, U2 and U3; CONFIRMS must show that
   enough sites signed the same content;
5. UNMASK: for every survivor the share of its seed, for every other site in U2 the share of its masking key. One share
   of each site, once; then all secrets are erased. OPENED ends the session.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from dura_common.secagg import keys, wire
from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic import shamir
from dura_common.secagg.arithmetic.masks import add_masks, word_type
from dura_common.secagg.params import Kind, SessionParameters
from dura_common.secagg.ring import from_words
from dura_common.secagg.site import Heard, Opened, Reaction, Site
from dura_common.secagg.wire import Frame, Type

KEY_USE = b"round keys"
SEAL_USE = b"round seal"
MASK_USE = b"round mask"
SELF_USE = b"self"
CONFIRM_USE = b"round survivors"


def transcript(key_list: bytes, second: frozenset[int], survivors: frozenset[int]) -> bytes:
    """Return what sites confirm: everybody's keys, U2 and U3; 32 bytes. The signature adds the session."""
    parts = (key_list, wire.encode_set(second), wire.encode_set(survivors))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


class RoundSite(Site):
    """See :class:`~dura_common.secagg.site.Site`."""

    def __init__(
        self,
        params: SessionParameters,
        name: str,
        identity: Ed25519PrivateKey,
        note: bytes | None = None,
        heard: Heard | None = None,
    ) -> None:
        if params.kind is not Kind.ROUND:
            raise ValueError("the session is not one of a round sum")
        super().__init__(params, name, identity, note, heard)
        self._sealing: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._masking: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._seed: bytes | None = secrets.token_bytes(shamir.SECRET_BYTES)
        self._publics: dict[int, tuple[bytes, bytes]] = {}
        """Sealing and masking key of everybody in U1."""
        self._key_list = b""
        self._sealed_with: dict[int, bytes] = {}
        """The secret that the sealing key shares with the key of each peer."""
        self._held: dict[int, tuple[bytes, bytes]] = {}
        """Shares (of seed, of masking key) by the site whose secrets they are."""
        self._second: frozenset[int] = frozenset()
        """U2: everybody who shared, this site included."""
        self._survivors: frozenset[int] = frozenset()
        self._awaits: Type | None = None
        self._masked = False

    def _advertise(self) -> bytes:
        if self._awaits is not None or self._publics:
            raise Abort(Reason.OUT_OF_TURN, "the keys were advertised already")
        self._awaits = Type.KEYS  # step 1
        said = b"".join((*self._own_publics(), self._note))
        return self._frame(Type.ADVERTISE, 0, said + self._sign(KEY_USE, said))

    def _react(self, frame: Frame) -> Reaction:
        if self._awaits is None:
            raise Abort(Reason.OUT_OF_TURN, f"{frame.type.name} came while nothing was awaited")
        self._expect(frame, self._awaits, 0)
        act = {
            Type.KEYS: self._share,  # step 2
            Type.SEALED_SHARES: self._hold,
            Type.SURVIVORS: self._confirm,  # step 4; step 3 is the vector, see _mask
            Type.CONFIRMS: self._unmask,  # step 5
            Type.OPENED: self._open,
        }[self._awaits]
        return act(frame)

    def _share(self, frame: Frame) -> Reaction:
        """Check everybody's keys; split both secrets among U1, sealed for each holder."""
        said = 2 * wire.KEY + self.params.note_size
        found = wire.decode_items(frame.body, said + wire.SIGNATURE, len(self.params.members))
        self._enough(len(found))
        own = self._own_publics()
        publics = {index: (item[: wire.KEY], item[wire.KEY : 2 * wire.KEY]) for index, item in found.items()}
        if publics.get(self.index) != own:
            raise Abort(Reason.NOT_AUTHENTIC, "the list of keys does not hold this site's own")
        if len({key for pair in publics.values() for key in pair}) != 2 * len(publics):
            raise Abort(Reason.INCONSISTENT, "a key appears twice in the list")
        keys.check(self.params, KEY_USE, {index: (item[:said], item[said:]) for index, item in found.items()})
        self._hear({index: item[2 * wire.KEY : said] for index, item in found.items()})
        self._publics = publics
        self._key_list = hashlib.sha256(frame.body).digest()
        seed, masking = self._secrets()
        of_seed = shamir.split(seed, publics, self.params.threshold)
        of_key = shamir.split(masking.private_bytes_raw(), publics, self.params.threshold)
        self._held = {self.index: (of_seed[self.index], of_key[self.index])}
        sealed = {
            index: keys.seal(
                self._seal_key(index, outgoing=True),
                of_seed[index] + of_key[index],
                self._associated(self.index, index),
            )
            for index in publics
            if index != self.index
        }
        self._awaits = Type.SEALED_SHARES
        body = keys.commitment(self.params, self.index, seed) + wire.encode_items(sealed)
        return Reaction(reply=self._frame(Type.SHARES, 0, body))

    def _hold(self, frame: Frame) -> Reaction:
        """Open and keep the shares of everybody else in U2; now masks can be made."""
        found = wire.decode_items(frame.body, wire.SEALED, len(self.params.members))
        if self.index in found or not found.keys() <= self._publics.keys():
            raise Abort(Reason.INCONSISTENT, "shares came from sites that gave no keys")
        self._enough(len(found) + 1)
        for index, sealed in found.items():
            key = self._seal_key(index, outgoing=False)
            opened = keys.unseal(key, sealed, self._associated(index, self.index), self.params.names[index])
            self._held[index] = (opened[: wire.SHARE], opened[wire.SHARE :])
        self._second = frozenset(self._held)
        self._sealing, self._sealed_with = None, {}
        self._awaits = None
        return Reaction(ready=True)

    def _mask(self, values: NDArray[np.signedinteger]) -> memoryview:
        if self._awaits is not None or self._masked or not self._second:
            raise Abort(Reason.OUT_OF_TURN, "a vector has its place once, after the shares")
        frame, words = self._vector(0, values)
        seed, masking = self._secrets()
        peers = {
            index: keys.pair_key(
                keys.agree(masking, self._publics[index][1]), self.params, MASK_USE, *sorted((self.index, index))
            )
            for index in self._second
            if index != self.index
        }
        add_masks(
            words,
            plus=[keys.mask_key(seed, SELF_USE), *(key for index, key in peers.items() if index > self.index)],
            minus=[key for index, key in peers.items() if index < self.index],
        )
        self._masked, self._awaits = True, Type.SURVIVORS
        self._seed = self._masking = None  # only the shares that others hold can give them back
        return frame

    def _confirm(self, frame: Frame) -> Reaction:
        survivors = wire.decode_set(frame.body, len(self.params.members))
        if self.index not in survivors or not survivors <= self._second:
            raise Abort(Reason.INCONSISTENT, "the survivors must be among those who shared, with this site")
        self._enough(len(survivors))
        self._survivors = survivors
        self._awaits = Type.CONFIRMS
        return Reaction(reply=self._frame(Type.CONFIRM, 0, self._sign(CONFIRM_USE, self._transcript())))

    def _unmask(self, frame: Frame) -> Reaction:
        """Release one share of each site, once, if enough sites confirmed the same survivors."""
        found = wire.decode_items(frame.body, wire.SIGNATURE, len(self.params.members))
        if not found.keys() <= self._survivors:
            raise Abort(Reason.INCONSISTENT, "a confirmation came from a site that is no survivor")
        self._enough(len(found))
        confirmed = self._transcript()
        keys.check(self.params, CONFIRM_USE, {index: (confirmed, signature) for index, signature in found.items()})
        seeds = {index: shares[0] for index, shares in self._held.items() if index in self._survivors}
        masking = {index: shares[1] for index, shares in self._held.items() if index not in self._survivors}
        self._erase()
        self._awaits = Type.OPENED
        return Reaction(reply=self._frame(Type.UNMASK, 0, wire.encode_items(seeds) + wire.encode_items(masking)))

    def _open(self, frame: Frame) -> Reaction:
        kind = word_type(self.params.ring_bits)
        if len(frame.body) != (self.params.length + wire.CHECK_WORDS) * kind.itemsize:
            raise Abort(Reason.MALFORMED, "an opened sum has another length than the study's")
        total = from_words(np.frombuffer(frame.body, dtype=kind))
        names = tuple(self.params.names[index] for index in sorted(self._survivors))
        self._finish()
        return Reaction(opened=Opened(self.params.first_step, total, names))

    def _transcript(self) -> bytes:
        return transcript(self._key_list, self._second, self._survivors)

    def _own_publics(self) -> tuple[bytes, bytes]:
        if self._sealing is None or self._masking is None:
            raise Abort(Reason.OUT_OF_TURN, "the keys of this session are gone")
        return keys.public_bytes(self._sealing), keys.public_bytes(self._masking)

    def _secrets(self) -> tuple[bytes, X25519PrivateKey]:
        if self._seed is None or self._masking is None:
            raise Abort(Reason.OUT_OF_TURN, "the secrets of this session are gone")
        return self._seed, self._masking

    def _seal_key(self, peer: int, *, outgoing: bool) -> bytes:
        if self._sealing is None:
            raise Abort(Reason.OUT_OF_TURN, "the keys of this session are gone")
        if peer not in self._sealed_with:
            self._sealed_with[peer] = keys.agree(self._sealing, self._publics[peer][0])
        order = (self.index, peer) if outgoing else (peer, self.index)
        return keys.pair_key(self._sealed_with[peer], self.params, SEAL_USE, *order)

    def _associated(self, sender: int, receiver: int) -> bytes:
        return self.params.session_id + self._key_list + sender.to_bytes(2, "big") + receiver.to_bytes(2, "big")

    def _sign(self, use: bytes, content: bytes) -> bytes:
        if self._identity is None:
            raise Abort(Reason.OUT_OF_TURN, "the session is over")
        return keys.sign(self._identity, use, self.params, self.index, content)

    def _erase(self) -> None:
        self._sealing = self._masking = self._identity = None
        self._seed = None
        self._held, self._sealed_with = {}, {}

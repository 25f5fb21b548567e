"""The coordinator's side of a round sum: it collects and relays frames, and removes the masks of the survivors.

At every stage, it continues without a lost site as long as enough sites are left for the following stages. A vector
that has arrived stays in the sum even if its sender is lost afterwards; the survivor set lists its sender.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dura_common.secagg import keys, wire
from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic import shamir
from dura_common.secagg.arithmetic.masks import add_masks
from dura_common.secagg.coordinator import Coordinator, Progress
from dura_common.secagg.params import SessionParameters
from dura_common.secagg.ring import from_words
from dura_common.secagg.round_site import MASK_USE, SELF_USE
from dura_common.secagg.site import Opened
from dura_common.secagg.wire import Frame, Type

STAGES = (Type.ADVERTISE, Type.SHARES, Type.MASKED, Type.CONFIRM, Type.UNMASK)


class RoundCoordinator(Coordinator):
    """See :class:`~dura_common.secagg.coordinator.Coordinator`."""

    def __init__(self, params: SessionParameters) -> None:
        super().__init__(params)
        self._stage = Type.ADVERTISE
        self._publics: dict[int, bytes] = {}
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, dict[int, bytes]] = {}
        """By sender: sealed shares by receiver."""
        self._survivors: set[int] = set()
        self._confirms: dict[int, bytes] = {}
        self._seeds: dict[int, dict[int, bytes]] = {}
        """By holder: shares of survivors' seeds by survivor."""
        self._masking: dict[int, dict[int, bytes]] = {}
        """By holder: shares of masking keys of those who dropped out."""
        self._gone: set[int] = set()
        """Sites that are lost or at fault. Nothing more is sent to them or expected from them."""

    @property
    def stage(self) -> Type:
        """The kind of frame that is expected now."""
        return self._stage

    def _take(self, index: int, frame: Frame) -> None:
        self._expect(frame, self._stage, 0)
        members = len(self.params.members)
        if self._stage is Type.ADVERTISE:
            self._publics[index] = b"".join(wire.parts(frame.body, 2 * wire.KEY, self.params.note_size, wire.SIGNATURE))
        elif self._stage is Type.SHARES:
            sealed = wire.decode_items(frame.body[wire.COMMITMENT :], wire.SEALED, members)
            if sealed.keys() != self._publics.keys() - {index}:
                raise Abort(Reason.MALFORMED, "a site did not share with everybody")
            self._sealed[index], self._commitments[index] = sealed, bytes(frame.body[: wire.COMMITMENT])
        elif self._stage is Type.MASKED:
            self._add(frame)
            self._survivors.add(index)
        elif self._stage is Type.CONFIRM:
            (self._confirms[index],) = wire.parts(frame.body, wire.SIGNATURE)
        else:
            self._take_shares(index, frame)

    def _take_shares(self, index: int, frame: Frame) -> None:
        members = len(self.params.members)
        cut = wire.INDEX + len(self._survivors) * (wire.INDEX + wire.SHARE)
        seeds = wire.decode_items(frame.body[:cut], wire.SHARE, members)
        masking = wire.decode_items(frame.body[cut:], wire.SHARE, members)
        if seeds.keys() != self._survivors or masking.keys() != self._sealed.keys() - self._survivors:
            raise Abort(Reason.MALFORMED, "shares of other sites were released than were asked for")
        self._seeds[index], self._masking[index] = seeds, masking

    def _drop(self, index: int, cause: Abort) -> Progress:
        self._gone.add(index)
        left = len(self._serving() | (self._waiting - self._gone))
        if left < self.params.needed:
            raise self._end(
                Abort(
                    Reason.TOO_FEW, f"{left} sites are left of {self.params.needed}; {cause.message}", site=cause.site
                )
            )
        if index not in self._waiting:
            return Progress()  # its earlier frames still count
        self._waiting.discard(index)
        return self._advance()

    def _serving(self) -> set[int]:
        """The sites that have answered in this stage and can answer in the next one; the last stage has no next one."""
        return self._present() if self._stage is Type.UNMASK else self._present() - self._gone

    def _present(self) -> set[int]:
        """The sites that have answered in this stage."""
        return set(
            {
                Type.ADVERTISE: self._publics.keys(),
                Type.SHARES: self._sealed.keys(),
                Type.MASKED: self._survivors,
                Type.CONFIRM: self._confirms.keys(),
                Type.UNMASK: self._seeds.keys(),
            }[self._stage]
        )

    def _advance(self) -> Progress:
        if self._waiting:
            return Progress()
        present, serving = self._present(), self._serving()
        if self._stage is Type.UNMASK:
            return self._open(present)
        outgoing = {
            Type.ADVERTISE: lambda: self._broadcast(serving, Type.KEYS, wire.encode_items(self._publics)),
            Type.SHARES: lambda: self._deliver(present, serving),
            Type.MASKED: lambda: self._broadcast(serving, Type.SURVIVORS, wire.encode_set(self._survivors)),
            Type.CONFIRM: lambda: self._broadcast(serving, Type.CONFIRMS, wire.encode_items(self._confirms)),
        }[self._stage]()
        self._stage = STAGES[STAGES.index(self._stage) + 1]
        self._waiting = serving
        return Progress(outgoing)

    def _deliver(self, present: set[int], serving: set[int]) -> dict[str, bytes | memoryview]:
        outgoing: dict[str, bytes | memoryview] = {}
        for receiver in sorted(serving):
            items = {sender: self._sealed[sender][receiver] for sender in present - {receiver}}
            frame = wire.encode(Type.SEALED_SHARES, self.params.session_id, 0, wire.encode_items(items))
            outgoing[self.params.names[receiver]] = frame
        return outgoing

    def _open(self, holders: set[int]) -> Progress:
        try:
            self._unmask(sorted(holders)[: self.params.threshold])
            total = from_words(self._sum)
        except Abort as abort:
            raise self._end(abort) from None
        names = tuple(self.params.names[index] for index in sorted(self._survivors))
        outgoing = self._to(holders, self._opened_frame)
        self._erase()
        return Progress(outgoing, Opened(self.params.first_step, total, names))

    def _unmask(self, holders: list[int]) -> None:
        """Remove the self-masks of survivors, and the remaining pair masks of sites that dropped out."""
        lagrange = shamir.weights(holders)
        minus = [keys.mask_key(self._seed_of(site, lagrange), SELF_USE) for site in sorted(self._survivors)]
        plus: list[bytes] = []
        for gone in sorted(self._sealed.keys() - self._survivors):
            key = self._key_of(gone, lagrange)
            for site in self._survivors:
                public = self._publics[site][wire.KEY : 2 * wire.KEY]
                mask = keys.pair_key(keys.agree(key, public), self.params, MASK_USE, *sorted((gone, site)))
                (minus if gone > site else plus).append(mask)  # the survivor added it if its peer's index is higher
        add_masks(self._sum, plus=plus, minus=minus)

    def _erase(self) -> None:
        super()._erase()
        self._sealed, self._seeds, self._masking = {}, {}, {}

    def _seed_of(self, site: int, lagrange: dict[int, int]) -> bytes:
        seed = self._join({holder: self._seeds[holder][site] for holder in lagrange}, lagrange, site)
        if keys.commitment(self.params, site, seed) != self._commitments[site]:
            raise Abort(
                Reason.NOT_AUTHENTIC, f"the shares of {self.params.names[site]} do not give what it committed to"
            )
        return seed

    def _key_of(self, gone: int, lagrange: dict[int, int]) -> X25519PrivateKey:
        raw = self._join({holder: self._masking[holder][gone] for holder in lagrange}, lagrange, gone)
        key = X25519PrivateKey.from_private_bytes(raw)
        if keys.public_bytes(key) != self._publics[gone][wire.KEY : 2 * wire.KEY]:
            raise Abort(Reason.NOT_AUTHENTIC, f"the shares of {self.params.names[gone]} do not give its key")
        return key

    def _join(self, shares: dict[int, bytes], lagrange: dict[int, int], site: int) -> bytes:
        try:
            return shamir.join(shares, lagrange)
        except ValueError as error:
            raise Abort(Reason.NOT_AUTHENTIC, f"the shares of {self.params.names[site]} are no shares") from error

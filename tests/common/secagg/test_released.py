"""What a site gives away over any sequence of messages: at most one vector for a mask, one share of each site.

A machine plays a coordinator together with all other sites: it signs, seals and splits as they could, in any order
and as often as it likes. The site under test is the real one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.secagg.sites import POOL, session, to_words

from dura_common.secagg import Abort, Kind, Site, keys, open_site, wire
from dura_common.secagg.round_site import CONFIRM_USE, KEY_USE, SEAL_USE, transcript
from dura_common.secagg.step_site import KEY_USE as STEP_KEY_USE
from dura_common.secagg.wire import Type

NOBODY: st.SearchStrategy[frozenset[int]] = st.just(frozenset())
MISSING = st.one_of(NOBODY, NOBODY, NOBODY, st.frozensets(st.integers(0, 4), max_size=3))
PATIENCE = st.integers(0, 12)
"""Turns before the coordinator turns rude: else hardly a session would get past its first stage."""


class Coordinator(RuleBasedStateMachine):
    """What both machines share: one real site, and everything that it ever sent."""

    kind: Kind

    def start(self, count: int, own: int, patience: int, **changes: int) -> None:
        """Open the site under test and draw the others' keys."""
        self.patience = patience
        self.params = session(count, self.kind, 2, **changes)
        self.own, self.count = own, count
        self.others = [index for index in range(count) if index != own]
        name = self.params.names[own]
        self.site: Site = open_site(self.params, name, POOL[name])
        self.sent: list[wire.Frame] = []
        self.given: list[bytes] = []
        self.private = {index: (X25519PrivateKey.generate(), X25519PrivateKey.generate()) for index in self.others}

    def act(self, call: Callable[[], bytes | None]) -> None:
        """Keep what comes out; after an abort nothing may come out any more."""
        ended = self.site.ended
        self.patience -= 1
        try:
            frame = call()
        except Abort:
            assert self.site.ended
            return
        assert not ended
        if frame is not None:
            self.sent.append(wire.decode(frame))

    def give(self, kind: Type, body: bytes, step: int = 0) -> None:
        """Give the site a frame."""
        frame = wire.encode(kind, self.params.session_id, step, body)
        self.given.append(frame)
        self.act(lambda: self.site.receive(frame).reply)

    def sign(self, use: bytes, index: int, content: bytes) -> bytes:
        """Sign as another site."""
        return keys.sign(POOL[self.params.names[index]], use, self.params, index, content)

    def of(self, kind: Type) -> list[wire.Frame]:
        """Return what was sent of one type."""
        return [frame for frame in self.sent if frame.type is kind]

    def rude(self) -> bool:
        """Whether frames out of turn are sent."""
        return self.patience < 0

    @rule()
    @precondition(rude)
    def advertise(self) -> None:
        """Ask for the first frame, also again."""
        self.act(self.site.advertise)

    @rule(data=st.data())
    @precondition(lambda self: self.given and self.rude())
    def replay(self, data: st.DataObject) -> None:
        """Give any earlier frame again."""
        frame = data.draw(st.sampled_from(self.given))
        self.act(lambda: self.site.receive(frame).reply)

    @rule(kind=st.sampled_from(Type), body=st.binary(max_size=80))
    @precondition(rude)
    def garbage(self, kind: Type, body: bytes) -> None:
        """Give any frame of the session."""
        self.give(kind, body)

    @invariant()
    def one_of_each(self) -> None:
        """No frame of any type (and step) is sent twice."""
        if hasattr(self, "sent"):
            numbered = [(frame.type, frame.step) for frame in self.sent]
            assert len(set(numbered)) == len(numbered)


class RoundMachine(Coordinator):
    """Against a site of a round sum."""

    kind = Kind.ROUND

    @initialize(count=st.integers(3, 5), own=st.integers(0, 2), patience=PATIENCE, data=st.data())
    def begin(self, count: int, own: int, patience: int, data: st.DataObject) -> None:
        """Draw a session and take the first frame."""
        self.start(count, own, patience, threshold=data.draw(st.integers(count // 2 + 1, count)))
        self.shared = self.survivors = frozenset[int]()
        self.act(self.site.advertise)
        self.publics = bytes(self.sent[0].body)

    @rule(missing=MISSING)
    @precondition(lambda self: len(self.sent) == 1)
    def bring_keys(self, missing: frozenset[int]) -> None:
        """Bring signed keys of any others."""
        items = {self.own: self.publics}
        for index in set(self.others) - missing:
            content = b"".join(keys.public_bytes(key) for key in self.private[index]) + bytes(self.params.note_size)
            items[index] = content + self.sign(KEY_USE, index, content)
        body = wire.encode_items(items)
        self.known = items.keys() - {self.own}
        self.key_list = hashlib.sha256(body).digest()
        self.give(Type.KEYS, body)

    @rule(missing=MISSING)
    @precondition(lambda self: len(self.of(Type.SHARES)) == 1 and not self.shared)
    def bring_shares(self, missing: frozenset[int]) -> None:
        """Bring sealed shares of any others."""
        items = {}
        for index in self.known - missing:
            secret = keys.agree(self.private[index][0], self.publics[: wire.KEY])
            key = keys.pair_key(secret, self.params, SEAL_USE, index, self.own)
            ends = index.to_bytes(2, "big") + self.own.to_bytes(2, "big")
            items[index] = keys.seal(key, bytes(66), self.params.session_id + self.key_list + ends)
        self.shared = frozenset(items) | {self.own}
        self.give(Type.SEALED_SHARES, wire.encode_items(items))

    @rule(value=st.integers(-5, 5))
    @precondition(lambda self: self.shared and (not self.of(Type.MASKED) or self.rude()))
    def mask(self, value: int) -> None:
        """Ask for a vector, also again."""
        self.act(lambda: self.site.mask(np.array([value, value])))

    @rule(missing=MISSING)
    @precondition(lambda self: self.of(Type.MASKED) and (not self.of(Type.CONFIRM) or self.rude()))
    def name_survivors(self, missing: frozenset[int]) -> None:
        """Name any survivors, also again and others."""
        named = frozenset(self.shared - missing | {self.own})
        self.give(Type.SURVIVORS, wire.encode_set(named))
        if self.of(Type.CONFIRM) and not self.survivors:
            self.survivors = named

    @rule(missing=MISSING, other=MISSING, lie=st.sampled_from([False, False, True]))
    @precondition(lambda self: self.of(Type.CONFIRM))
    def bring_confirms(self, missing: frozenset[int], other: frozenset[int], lie: bool) -> None:
        """Bring confirmations of any others, of the same or of another survivor set."""
        survivors = self.shared - other if lie else self.survivors
        content = transcript(self.key_list, self.shared, survivors)
        items = {index: self.sign(CONFIRM_USE, index, content) for index in self.survivors - missing - {self.own}}
        if not lie:
            items[self.own] = bytes(self.of(Type.CONFIRM)[0].body)
        self.give(Type.CONFIRMS, wire.encode_items(items))

    @invariant()
    def never_both_shares(self) -> None:
        """Of nobody both shares, never a share without a confirmed set, and exactly one share of each in U2."""
        if not hasattr(self, "sent") or not self.of(Type.UNMASK):
            return
        (frame,) = self.of(Type.UNMASK)
        cut = 2 + len(self.survivors) * (2 + wire.SHARE)
        seeds = wire.decode_items(frame.body[:cut], wire.SHARE, self.count).keys()
        masking = wire.decode_items(frame.body[cut:], wire.SHARE, self.count).keys()
        assert not seeds & masking
        assert seeds == self.survivors
        assert seeds | masking == self.shared
        assert len(self.survivors) >= self.params.needed
        assert self.of(Type.MASKED)
        assert self.of(Type.CONFIRM)


class StepMachine(Coordinator):
    """Against a site of step sums."""

    kind = Kind.STEP

    @initialize(count=st.integers(2, 5), own=st.integers(0, 1), patience=PATIENCE, steps=st.integers(1, 3))
    def begin(self, count: int, own: int, patience: int, steps: int) -> None:
        """Draw a session and take the first frame."""
        self.start(count, own, patience, steps=steps)
        self.agreed, self.answered = False, 0
        self.act(self.site.advertise)
        self.publics = bytes(self.sent[0].body)

    @rule(missing=MISSING)
    @precondition(lambda self: not self.agreed or self.rude())
    def bring_keys(self, missing: frozenset[int]) -> None:
        """Bring the others' signed keys, all or not."""
        self.agreed = True
        items = {self.own: self.publics}
        for index in set(self.others) - missing:
            content = keys.public_bytes(self.private[index][0]) + bytes(self.params.note_size)
            items[index] = content + self.sign(STEP_KEY_USE, index, content)
        self.give(Type.KEYS, wire.encode_items(items))

    @rule(value=st.integers(-5, 5))
    @precondition(lambda self: self.agreed and (len(self.of(Type.MASKED)) == self.answered or self.rude()))
    def mask(self, value: int) -> None:
        """Ask for a vector, also again."""
        self.act(lambda: self.site.mask(np.array([value, value])))

    @rule(total=st.integers(-9, 9), wrong=st.sampled_from([0, 0, 0, 1]))
    @precondition(lambda self: self.of(Type.MASKED) and (len(self.of(Type.MASKED)) > self.answered or self.rude()))
    def tell(self, total: int, wrong: int) -> None:
        """Tell any sum for the present or another step."""
        step = self.of(Type.MASKED)[-1].step + wrong
        self.answered += 1
        words = to_words(np.array([total, total]), 32, 1)
        self.give(Type.OPENED, words.tobytes(), step)

    @invariant()
    def no_vector_without_everybody(self) -> None:
        """Vectors are sent in the order of steps, and not one more than the session has."""
        if hasattr(self, "sent"):
            steps = [frame.step for frame in self.of(Type.MASKED)]
            assert steps == list(range(1, len(steps) + 1))
            assert len(steps) <= self.params.steps


RoundMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=14, deadline=None)
StepMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=12, deadline=None)
TestRoundSite = RoundMachine.TestCase
TestStepSite = StepMachine.TestCase

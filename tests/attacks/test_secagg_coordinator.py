"""A hostile coordinator, alone or with colluding sites, against the real site side of secure sums.

It holds every frame, may invent, change, repeat, swap and withhold them, and it knows the identities of sites that
collude with it. One test for each line of the table of attacks in docs/reference/protocol.md. Each test takes no
fixture, so that tests/attacks/test_secagg_mutants.py can run it against sites from which one check was removed.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.common.secagg.world import POOL, Sites, collect, session, to_words, vectors

from dura_common.secagg import (
    Abort,
    Coordinator,
    FixedPoint,
    Kind,
    Member,
    Reason,
    SessionParameters,
    Site,
    keys,
    largest_value,
    max_frame,
    open_coordinator,
    open_site,
    wire,
)
from dura_common.secagg.arithmetic.masks import add_masks
from dura_common.secagg.params import MIN_MEMBERS
from dura_common.secagg.ring import from_words
from dura_common.secagg.round_site import CONFIRM_USE, MASK_USE, SEAL_USE, RoundSite, transcript
from dura_common.secagg.round_site import KEY_USE as ROUND_KEY_USE
from dura_common.secagg.step_site import KEY_USE as STEP_KEY_USE
from dura_common.secagg.step_site import StepSite
from dura_common.secagg.wire import Type

VICTIM, ACCOMPLICE = "site-001", "site-002"
STAGES = {Kind.STEP: (Type.KEYS, Type.OPENED), Kind.ROUND: tuple(kind for kind in Type if kind in range(2, 11, 2))}
"""Types of the frames to sites, in their order."""


def until(params: SessionParameters, wanted: Type) -> tuple[Sites, Coordinator, dict[str, bytes]]:
    """Run honestly until the coordinator has frames of a type to send; they are not yet sent."""
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    frames = dict(collect(coordinator, sites.advertise()).outgoing)
    while frames[VICTIM][0] != wanted:
        frames = dict(collect(coordinator, sites.tell(frames)).outgoing)
    return sites, coordinator, frames


def refuses(site: Site, frame: bytes, reason: Reason) -> None:
    """The site ends the session for that reason, and from then on gives nothing."""
    with pytest.raises(Abort) as caught:
        site.receive(frame)
    assert caught.value.reason is reason
    gives_nothing(site)


def gives_nothing(site: Site) -> None:
    """Nothing comes out of an ended session."""
    assert site.ended
    zeros = np.zeros(site.params.length, dtype=np.int64)
    for call in (site.advertise, lambda: site.mask(zeros)):
        with pytest.raises(Abort, match="the session is over"):
            call()


def item_size(kind: Kind) -> int:
    """Return the size of one site's item in the list of keys."""
    return (1 if kind is Kind.STEP else 2) * wire.KEY + wire.SIGNATURE


def changed_keys(params: SessionParameters, frame: bytes, change: Callable[[dict[int, bytes]], None]) -> bytes:
    """Return the list of keys with a change."""
    items = wire.decode_items(memoryview(frame)[wire.HEADER :], item_size(params.kind), len(params.members))
    change(items)
    return wire.encode(Type.KEYS, params.session_id, 0, wire.encode_items(items))


def signed_keys(params: SessionParameters, index: int, identity: Ed25519PrivateKey, publics: bytes = b"") -> bytes:
    """Return an item of the list of keys, fresh ones by default."""
    use = STEP_KEY_USE if params.kind is Kind.STEP else ROUND_KEY_USE
    count = (item_size(params.kind) - wire.SIGNATURE) // wire.KEY
    publics = publics or b"".join(keys.public_bytes(X25519PrivateKey.generate()) for _ in range(count))
    return publics + keys.sign(identity, use, params, index, publics)


# --- Keys ----------------------------------------------------------------------------------------------------------


def test_replaced_keys() -> None:
    """A key of the coordinator's instead of a site's: the signature is not that of the pinned identity."""
    for kind in Kind:
        params = session(3, kind)
        for signer in (Ed25519PrivateKey.generate(), POOL[VICTIM], POOL[ACCOMPLICE]):
            sites, _, frames = until(params, Type.KEYS)
            forged = signed_keys(params, 0, signer)
            frame = changed_keys(params, frames[VICTIM], lambda items, forged=forged: items.update({0: forged}))
            refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_a_signature_of_another_index_or_use() -> None:
    """A site's signed keys stand for itself only, and a signature of one use does for no other."""
    params = session(3, Kind.ROUND)
    sites, _, frames = until(params, Type.KEYS)
    moved = changed_keys(params, frames[VICTIM], lambda items: items.update({0: items[2], 2: items[0]}))
    refuses(sites.sites[VICTIM], moved, Reason.NOT_AUTHENTIC)

    publics = b"".join(keys.public_bytes(X25519PrivateKey.generate()) for _ in range(2))
    sites, _, frames = until(params, Type.KEYS)
    other = publics + keys.sign(POOL["site-000"], CONFIRM_USE, params, 0, publics)
    frame = changed_keys(params, frames[VICTIM], lambda items: items.update({0: other}))
    refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_own_key_replaced_by_an_earlier_one() -> None:
    """The site was started twice in one session: its older key is well signed, but not the one that it holds."""
    for kind in Kind:
        params = session(4, kind)
        earlier = open_site(params, VICTIM, POOL[VICTIM]).advertise()[wire.HEADER :]
        sites, _, frames = until(params, Type.KEYS)
        frame = changed_keys(params, frames[VICTIM], lambda items, earlier=earlier: items.update({1: earlier}))
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)
    sites, _, frames = until(params, Type.KEYS)  # of four sites in a round sum three are enough
    frame = changed_keys(params, frames[VICTIM], lambda items: items.pop(1))
    refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_reflected_own_key() -> None:
    """An accomplice signs the victim's public key as its own: no key may appear twice."""
    for kind in Kind:
        params = session(3, kind)
        sites, _, frames = until(params, Type.KEYS)

        def reflect(items: dict[int, bytes], params: SessionParameters = params) -> None:
            items[2] = signed_keys(params, 2, POOL[ACCOMPLICE], items[1][: -wire.SIGNATURE])

        refuses(sites.sites[VICTIM], changed_keys(params, frames[VICTIM], reflect), Reason.INCONSISTENT)


def test_keys_of_small_order() -> None:
    """An accomplice gives a point of small order, for which every secret would be zero."""
    for kind in Kind:
        params = session(3, kind)
        for point in (bytes(32), (1).to_bytes(32, "little")):
            sites, _, frames = until(params, Type.KEYS)
            publics = point if kind is Kind.STEP else point + keys.public_bytes(X25519PrivateKey.generate())
            item = signed_keys(params, 2, POOL[ACCOMPLICE], publics)
            frame = changed_keys(params, frames[VICTIM], lambda items, item=item: items.update({2: item}))
            refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_too_few_sites_in_the_list_of_keys() -> None:
    """The coordinator leaves out sites until too few are left: the study's numbers decide, not the list."""
    for kind, count, out in ((Kind.STEP, 4, 1), (Kind.ROUND, 5, 2)):
        params = session(count, kind)
        sites, _, frames = until(params, Type.KEYS)

        def leave_out(items: dict[int, bytes], out: int = out) -> None:
            for index in list(items)[-out:]:
                del items[index]

        refuses(sites.sites[VICTIM], changed_keys(params, frames[VICTIM], leave_out), Reason.TOO_FEW)


def test_unknown_and_doubled_members_in_lists() -> None:
    """An index that nobody has, and one index twice, are refused in every list."""
    for kind in Kind:
        for wanted in set(STAGES[kind]) - {Type.OPENED}:
            params = session(4, kind)
            sizes = {Type.KEYS: item_size(kind), Type.SEALED_SHARES: wire.SEALED, Type.CONFIRMS: wire.SIGNATURE}
            size = sizes.get(wanted, 0)
            for index in (3, 4, 500):
                sites, _, frames = until(params, wanted)
                body = frames[VICTIM][wire.HEADER :]
                last = body[len(body) - size :]
                longer = (int.from_bytes(body[:2], "big") + 1).to_bytes(2, "big") + body[2:] + index.to_bytes(2, "big")
                frame = wire.encode(wanted, params.session_id, 0, longer + last)
                refuses(sites.sites[VICTIM], frame, Reason.MALFORMED)


# --- Parameters ----------------------------------------------------------------------------------------------------


def test_sites_that_were_told_different_studies() -> None:
    """Whatever the coordinator tells one site otherwise (study, roster, model, round, threshold, ...): no session.

    No frame carries a parameter. A lowered threshold, a revoked or older roster, another model for one site, an older
    round or attempt are other sessions, in which no signature of this one holds.
    """
    for kind in Kind:
        params = session(4, kind)
        changes: dict[str, object] = dict.fromkeys(("study", "roster", "state", "context"), "aa" * 32)
        changes |= {"purpose": "evaluate", "round": 2, "attempt": 2, "length": 6, "ring_bits": 64}
        changes |= {"minimum": 3, "colluders": 1, "first_step": 2}
        if kind is Kind.STEP:
            changes["steps"] = 2
        else:
            changes["threshold"] = 4
        stranger = Member("site-003", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
        changes["members"] = (*params.members[:3], stranger)
        for name, value in changes.items():
            told = replace(params, **{name: value})  # type: ignore[arg-type]  # by name
            misled = open_site(told, VICTIM, POOL[VICTIM])
            others = [open_site(params, site, POOL[site]) for site in params.names if site != VICTIM]
            adverts = {site.params.names[site.index]: site.advertise() for site in [misled, *others]}
            items = {params.index(site): frame[wire.HEADER :] for site, frame in adverts.items()}
            body = wire.encode_items(items)
            refuses(misled, wire.encode(Type.KEYS, params.session_id, 0, body), Reason.MALFORMED)
            again = open_site(told, VICTIM, POOL[VICTIM])
            items[1] = again.advertise()[wire.HEADER :]
            body = wire.encode_items(items)
            refuses(again, wire.encode(Type.KEYS, told.session_id, 0, body), Reason.NOT_AUTHENTIC)
            refuses(others[0], wire.encode(Type.KEYS, params.session_id, 0, body), Reason.NOT_AUTHENTIC)


def test_masks_bind_the_session() -> None:
    """The same keys in two sessions would give other masks and other seals: every derivation names the session."""
    params = session(3, Kind.ROUND)
    other = replace(params, state="aa" * 32)
    one, two = X25519PrivateKey.generate(), keys.public_bytes(X25519PrivateKey.generate())
    derived = {
        keys.pair_key(keys.agree(one, two), which, use, *order)
        for which in (params, other)
        for use in (MASK_USE, SEAL_USE)
        for order in ((0, 1), (1, 0), (0, 2))
    }
    assert len(derived) == 12


def test_unsafe_numbers_make_no_session() -> None:
    """No study can lower the threshold, the minimum or the number of honest sites below what the proof needs."""
    for changes in (
        {"threshold": 3},  # 2 t = n: two disjoint halves could both open
        {"threshold": 4, "colluders": 2},
        {"threshold": 7},
        {"minimum": 1},
        {"minimum": 7},
        {"colluders": 5, "threshold": 6},
        {"colluders": -1},
        {"steps": 2},
        {"ring_bits": 31},
        {"length": 0},
        {"round": 0},
        {"study": "short"},
        {"purpose": "Not a word"},
    ):
        with pytest.raises(ValueError, match=r".+"):
            session(6, Kind.ROUND, **changes)
    with pytest.raises(ValueError, match="all or nothing"):
        session(6, Kind.STEP, threshold=5)
    with pytest.raises(ValueError, match="2 to 500"):
        session(1, Kind.STEP)


def test_one_hospital_under_two_names() -> None:
    """A site that is listed twice, by name or by key, would count as two."""
    params = session(3, Kind.STEP)
    one, two, three = params.members
    for members in ((one, one, three), (one, replace(two, identity=one.identity), three), (two, one, three)):
        with pytest.raises(ValueError, match="distinct"):
            replace(params, members=members)


def test_strange_encodings_of_parameters() -> None:
    """Two encodings of one session, cut ones and huge counts are refused before anything is built from them."""
    params = session(3, Kind.ROUND)
    content = params.encode()
    huge = content.replace(b"\0\0\0\4\0\0\0\3", b"\0\0\0\4\0\0\xff\xff")
    for wrong, message in (
        (content + b"\0\0\0\0", "canonical"),
        (content[:-1], "cut short"),
        (content[:40], "cut short"),
        (b"", "cut short"),
        (content.replace(b"dura secure sum 1", b"dura secure sum 2"), "not the parameters"),
        (huge, "at most 500"),
    ):
        with pytest.raises(ValueError, match=message):
            SessionParameters.decode(wrong)
    padded = content.replace((1).to_bytes(8, "big"), (1).to_bytes(9, "big"), 1).replace(b"\0\0\0\10", b"\0\0\0\11", 1)
    with pytest.raises(ValueError, match=r"canonical|cut short"):
        SessionParameters.decode(padded)


def test_a_site_opens_only_its_own_kind_and_identity() -> None:
    """A session of the other kind, another identity key, or a session without this site cannot be opened."""
    for kind, side, wrong in ((Kind.STEP, StepSite, RoundSite), (Kind.ROUND, RoundSite, StepSite)):
        params = session(3, kind)
        with pytest.raises(ValueError, match="not one of"):
            wrong(params, VICTIM, POOL[VICTIM])
        with pytest.raises(ValueError, match="pins"):
            side(params, VICTIM, POOL[ACCOMPLICE])
        with pytest.raises(ValueError, match="tuple"):
            side(params, "site-050", POOL["site-050"])


# --- Order ---------------------------------------------------------------------------------------------------------


def test_frames_out_of_order() -> None:
    """At every stage every frame that has its place at another one, from the same session, ends it."""
    for kind in Kind:
        params = session(3, kind, steps=1)
        right = {wanted: until(params, wanted)[2][VICTIM] for wanted in STAGES[kind]}
        for stage, wanted in itertools.product(STAGES[kind], STAGES[kind]):
            if stage is not wanted:
                sites, _, _ = until(params, stage)
                refuses(sites.sites[VICTIM], right[wanted], Reason.OUT_OF_TURN)


def test_the_same_frame_twice() -> None:
    """A second list of keys, of shares, of survivors, of confirmations or a second sum ends the session."""
    for kind in Kind:
        for wanted in STAGES[kind]:
            sites, _, frames = until(session(3, kind, steps=2 if kind is Kind.STEP else 1), wanted)
            site = sites.sites[VICTIM]
            reaction = site.receive(frames[VICTIM])
            if reaction.ready:
                with pytest.raises(Abort) as caught:
                    site.receive(frames[VICTIM])
                assert caught.value.reason is Reason.OUT_OF_TURN
            else:
                with pytest.raises(Abort, match=r"expected|over"):
                    site.receive(frames[VICTIM])
            gives_nothing(site)


def test_a_second_vector_for_the_same_masks() -> None:
    """However the site is asked, two vectors never leave it under one mask; nor one before the keys."""
    for kind in Kind:
        params = session(3, kind, steps=2 if kind is Kind.STEP else 1)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        for site in (open_site(params, VICTIM, POOL[VICTIM]), until(params, ready)[0].sites[VICTIM]):
            with pytest.raises(Abort) as caught:
                site.mask(np.zeros(5, dtype=np.int64))  # before its time
            assert caught.value.reason is Reason.OUT_OF_TURN
            gives_nothing(site)
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        site.mask(np.zeros(5, dtype=np.int64))
        with pytest.raises(Abort) as caught:
            site.mask(np.ones(5, dtype=np.int64))
        assert caught.value.reason is Reason.OUT_OF_TURN
        gives_nothing(site)


def test_no_vector_after_the_survivors_are_named() -> None:
    """A site that was named a survivor has no second vector for a later stage."""
    sites, _, frames = until(session(3, Kind.ROUND), Type.SURVIVORS)
    site = sites.sites[VICTIM]
    site.receive(frames[VICTIM])
    with pytest.raises(Abort):
        site.mask(np.ones(5, dtype=np.int64))
    gives_nothing(site)


def test_keys_are_advertised_once() -> None:
    """One session, one set of keys: a second advertisement ends it, before and after the keys came."""
    for kind in Kind:
        params = session(3, kind)
        site = open_site(params, VICTIM, POOL[VICTIM])
        site.advertise()
        with pytest.raises(Abort) as caught:
            site.advertise()
        assert caught.value.reason is Reason.OUT_OF_TURN
        gives_nothing(site)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        with pytest.raises(Abort):
            site.advertise()
        gives_nothing(site)


def test_frames_before_the_first() -> None:
    """A site that has not spoken reacts to nothing."""
    for kind in Kind:
        _, _, frames = until(session(3, kind), Type.KEYS)
        refuses(open_site(session(3, kind), VICTIM, POOL[VICTIM]), frames[VICTIM], Reason.OUT_OF_TURN)


def test_frames_of_an_older_session() -> None:
    """Every frame of an earlier study, round or attempt is refused at its own place in the new session."""
    for kind in Kind:
        params = session(3, kind)
        for change in ({"attempt": 2}, {"round": 2}, {"study": "bb" * 32}):
            new = replace(params, **change)  # type: ignore[arg-type]  # by name
            for wanted in STAGES[kind]:
                _, _, old = until(params, wanted)
                sites, _, _ = until(new, wanted)
                refuses(sites.sites[VICTIM], old[VICTIM], Reason.MALFORMED)


def test_older_content_under_the_new_session() -> None:
    """Relabelled with the new session's id, older keys, shares and confirmations hold no more than before."""
    params = session(3, Kind.ROUND)
    new = replace(params, attempt=2)
    for wanted in (Type.SEALED_SHARES, Type.CONFIRMS):
        _, _, old = until(params, wanted)
        sites, _, _ = until(new, wanted)
        frame = wire.encode(wanted, new.session_id, 0, old[VICTIM][wire.HEADER :])
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)
    for kind in Kind:
        params = session(3, kind)
        new = replace(params, attempt=2)
        older = open_site(params, "site-000", POOL["site-000"]).advertise()[wire.HEADER :]
        sites, _, frames = until(new, Type.KEYS)
        frame = changed_keys(new, frames[VICTIM], lambda items, older=older: items.update({0: older}))
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_a_sum_of_another_step() -> None:
    """A step's sum has its own step's number; an older or later one ends the session."""
    params = session(3, Kind.STEP, steps=3)
    for step in (0, 2, 3, 2**32 - 1):
        sites, _, frames = until(params, Type.OPENED)
        frame = wire.encode(Type.OPENED, params.session_id, step, frames[VICTIM][wire.HEADER :])
        refuses(sites.sites[VICTIM], frame, Reason.OUT_OF_TURN)


def test_more_steps_than_the_study_has() -> None:
    """After the last step the session is over and its keys are gone."""
    params = session(3, Kind.STEP, steps=2)
    sites, coordinator, frames = until(params, Type.OPENED)
    frames = dict(collect(coordinator, sites.tell(frames)).outgoing)
    site = sites.sites[VICTIM]
    assert not site.receive(frames[VICTIM]).ready
    gives_nothing(site)


def test_the_coordinator_ends_the_session() -> None:
    """An abort from the coordinator ends the session with its reason; a malformed one too."""
    for kind in Kind:
        malformed = ((body, Reason.MALFORMED) for body in (b"", b"\xff", b"\7\7"))
        for body, reason in ((b"\7", Reason.LOST), *malformed):
            params = session(3, kind)
            sites, _, _ = until(params, Type.KEYS)
            refuses(sites.sites[VICTIM], wire.encode(Type.ABORT, params.session_id, 0, body), reason)


def test_nothing_continues_after_an_abort() -> None:
    """After any refusal the right frame does not help any more, the secrets are gone, and the error keeps none."""
    for kind in Kind:
        for wanted in STAGES[kind]:
            sites, _, frames = until(session(3, kind), wanted)
            site = sites.sites[VICTIM]
            with pytest.raises(Abort) as caught:
                site.receive(b"garbage")
            with pytest.raises(Abort, match="the session is over"):
                site.receive(frames[VICTIM])
            gives_nothing(site)
            holds_no_secret(site)
            entry = caught.value.__traceback__
            while entry is not None:
                if entry.tb_frame.f_code.co_name in {"_part", "_react", "decode"}:
                    assert not entry.tb_frame.f_locals, "what the frames of an error held was not cleared"
                entry = entry.tb_next


def holds_no_secret(site: Site) -> None:
    """No attribute of the site holds a key, a seed or a share."""
    for name, value in vars(site).items():
        if name not in {"params", "_publics", "_key_list", "_chain"}:
            assert not isinstance(value, X25519PrivateKey | Ed25519PrivateKey | bytes), name
            assert not (isinstance(value, dict) and value), name


def test_nothing_is_left_at_the_end() -> None:
    """After the last sum neither kind of site holds a key, a seed or a share, nor do earlier stages keep them."""
    for kind in Kind:
        sites, _, frames = until(session(3, kind), Type.OPENED)
        site = sites.sites[VICTIM]
        if kind is Kind.ROUND:
            holds_no_secret(site)  # all were given or dropped with the shares
        assert getattr(site, "_identity", None) is None
        site.receive(frames[VICTIM])
        holds_no_secret(site)
    sites, _, _ = until(session(3, Kind.ROUND), Type.SURVIVORS)
    site = sites.sites[VICTIM]
    assert isinstance(site, RoundSite)
    assert site._seed is None, "after the vector only the holders of shares can give the seed back"
    assert site._masking is None
    assert site._sealing is None
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(site)


# --- Shares --------------------------------------------------------------------------------------------------------


def test_shares_altered_or_sealed_for_somebody_else() -> None:
    """Another site's shares, a third site's copy, a flipped bit: the seal names session, keys, sender, receiver."""
    params = session(4, Kind.ROUND)
    changes: tuple[Callable[[dict[int, bytes], dict[int, bytes]], None], ...] = (
        lambda items, _other: items.update({0: items[2]}),
        lambda items, other: items.update({0: other[0]}),
        lambda items, _other: items.update({0: bytes([items[0][0] ^ 1]) + items[0][1:]}),
        lambda items, _other: items.update({0: bytes(wire.SEALED)}),
    )
    for change in changes:
        sites, _, frames = until(params, Type.SEALED_SHARES)
        own, other = (
            wire.decode_items(memoryview(frames[name])[wire.HEADER :], wire.SEALED, 4) for name in (VICTIM, ACCOMPLICE)
        )
        change(own, other)
        frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(own))
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_sites_that_were_told_different_keys() -> None:
    """Of two lists of keys, each valid by itself, each site gets one: what is sealed under one opens under no other."""
    params = session(5, Kind.ROUND)
    sites = Sites(params, vectors(params))
    items = {params.index(name): frame[wire.HEADER :] for name, frame in sites.advertise().items()}
    without = [wire.encode_items({index: item for index, item in items.items() if index != out}) for out in (3, 4)]
    told = {name: without[name == ACCOMPLICE] for name in params.names[:3]}
    answers = sites.tell({name: wire.encode(Type.KEYS, params.session_id, 0, body) for name, body in told.items()})
    sealed = {
        params.index(name): wire.decode_items(memoryview(frame)[wire.HEADER + wire.COMMITMENT :], wire.SEALED, 5)[1]
        for name, frame in answers.items()
        if name != VICTIM
    }
    sealed[4] = sealed[0]  # three others, so that the victim has enough and looks at what is in them
    frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(sealed))
    with pytest.raises(Abort, match="from site-002 were altered"):
        sites.sites[VICTIM].receive(frame)
    gives_nothing(sites.sites[VICTIM])


def test_shares_from_nowhere() -> None:
    """Shares of a site that gave no keys, or of the victim itself, and too few shares are refused."""
    params = session(5, Kind.ROUND)
    for change, reason in (
        (lambda items: {**items, 4: items[0]}, Reason.INCONSISTENT),
        (lambda items: {**items, 1: items[0]}, Reason.INCONSISTENT),
        (lambda items: {index: items[index] for index in (0, 2)}, Reason.TOO_FEW),
    ):
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        adverts = sites.advertise()
        del adverts["site-004"]
        collect(coordinator, adverts)
        frames = collect(coordinator, sites.tell(coordinator.close().outgoing)).outgoing
        items = wire.decode_items(memoryview(frames[VICTIM])[wire.HEADER :], wire.SEALED, 5)
        frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(change(items)))
        refuses(sites.sites[VICTIM], frame, reason)


# --- Survivors -----------------------------------------------------------------------------------------------------


def survivors(params: SessionParameters, indices: Iterable[int]) -> bytes:
    """Return a frame that names survivors."""
    return wire.encode(Type.SURVIVORS, params.session_id, 0, wire.encode_set(indices))


def test_survivors_that_cannot_be() -> None:
    """Survivors without the victim, with a site that shared nothing, or too few are refused."""
    params = session(5, Kind.ROUND)
    for indices, reason in (
        ({0, 2, 3, 4}, Reason.INCONSISTENT),
        ({0, 1, 2}, Reason.TOO_FEW),
        ({1}, Reason.TOO_FEW),
    ):
        sites, _, _ = until(params, Type.SURVIVORS)
        refuses(sites.sites[VICTIM], survivors(params, indices), reason)

    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    frames = dict(collect(coordinator, sites.advertise()).outgoing)
    answers = sites.tell(frames)
    answers.pop("site-004")
    collect(coordinator, answers)
    sites.tell(coordinator.close().outgoing)  # U2 is without site-004
    refuses(sites.sites[VICTIM], survivors(params, {0, 1, 2, 4}), Reason.INCONSISTENT)


def test_minimum_and_colluders_count_too() -> None:
    """The study's minimum, and two sites beyond those that may collude, are demanded beside the threshold."""
    for changes in ({"threshold": 3, "minimum": 4}, {"threshold": 4, "colluders": 2, "minimum": 2}):
        params = session(5, Kind.ROUND, **changes)
        sites, _, _ = until(params, Type.SURVIVORS)
        refuses(sites.sites[VICTIM], survivors(params, {0, 1, 2}), Reason.TOO_FEW)
    assert session(3, Kind.STEP, colluders=1).needed == 3
    assert session(4, Kind.ROUND, threshold=4, colluders=2).needed == 4 >= 2 + MIN_MEMBERS
    with pytest.raises(ValueError, match="do not collude"):
        session(3, Kind.STEP, colluders=2)


def confirms(params: SessionParameters, items: Mapping[int, bytes]) -> bytes:
    """Return a frame with confirmations."""
    return wire.encode(Type.CONFIRMS, params.session_id, 0, wire.encode_items(items))


def key_list(frame: bytes) -> bytes:
    """Return what sites keep of the list of keys."""
    return hashlib.sha256(frame[wire.HEADER :]).digest()


def with_views(
    params: SessionParameters, views: Sequence[frozenset[int]]
) -> tuple[bytes, dict[int, Site], dict[int, bytes]]:
    """Name survivors to each site by its own view; return list of keys, sites that confirmed, and confirmations."""
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    first = dict(collect(coordinator, sites.advertise()).outgoing)
    sites.tell(collect(coordinator, sites.tell(first)).outgoing)
    confirmed, signed = {}, {}
    for index, view in enumerate(views):
        site = sites.sites[params.names[index]]
        try:
            reply = site.receive(survivors(params, view)).reply or b""
        except Abort:
            continue
        confirmed[index], signed[index] = site, reply[wire.HEADER :]
    return key_list(first[VICTIM]), confirmed, signed


def test_two_survivor_lists() -> None:
    """The classical attack: half of the sites are told that a site is lost, the others not. No share is released.

    The accomplice signs both sets, but 2 t > n + c leaves too few honest signatures for one of them; here for both.
    """
    params = session(5, Kind.ROUND, colluders=1, threshold=4)
    whole, without = frozenset(range(5)), frozenset({0, 1, 3, 4})
    views = [whole, without, whole, without]
    for trick, reason in (("own view", Reason.TOO_FEW), ("all that were signed", Reason.NOT_AUTHENTIC)):
        told, sites, signed = with_views(params, views)
        for index, view in enumerate(views):
            chosen = [one for one in signed if one in view and (trick == "all that were signed" or views[one] == view)]
            accomplice = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, whole, view))
            items = {one: signed[one] for one in chosen} | {4: accomplice}
            refuses(sites[index], confirms(params, items), reason)


def test_confirmations_that_do_not_hold() -> None:
    """Too few, of a site that is no survivor, or over other survivors, other shares or other keys."""
    params = session(5, Kind.ROUND)
    named, everybody = frozenset({0, 1, 2, 3}), frozenset(range(5))
    site, told, signed = _after_confirming(params, named)
    refuses(site, confirms(params, {index: signed[index] for index in (0, 1, 2)}), Reason.TOO_FEW)

    for parts in (
        lambda told: (told, everybody, everybody),
        lambda told: (told, named, named),
        lambda _told: (bytes(32), everybody, named),
    ):
        site, told, signed = _after_confirming(params, named)
        signed[0] = keys.sign(POOL["site-000"], CONFIRM_USE, params, 0, transcript(*parts(told)))
        refuses(site, confirms(params, signed), Reason.NOT_AUTHENTIC)

    site, told, signed = _after_confirming(params, named)
    signed[4] = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, everybody, named))
    refuses(site, confirms(params, signed), Reason.INCONSISTENT)


def _after_confirming(params: SessionParameters, named: frozenset[int]) -> tuple[Site, bytes, dict[int, bytes]]:
    """Return the victim after it confirmed survivors, the digest of the list of keys, and all confirmations."""
    told, sites, signed = with_views(params, [named] * len(named))
    return sites[1], told, signed


def test_both_shares_of_one_site() -> None:
    """After the shares for one survivor set the site gives none for another: it has none left."""
    params = session(5, Kind.ROUND)
    site, _, signed = _after_confirming(params, frozenset({0, 1, 2, 3}))
    frame = site.receive(confirms(params, signed)).reply
    assert frame is not None
    body = memoryview(frame)[wire.HEADER :]
    cut = 2 + 4 * (2 + wire.SHARE)
    seeds = wire.decode_items(body[:cut], wire.SHARE, 5)
    masking = wire.decode_items(body[cut:], wire.SHARE, 5)
    assert (seeds.keys(), masking.keys()) == ({0, 1, 2, 3}, {4})
    holds_no_secret(site)
    for again in (survivors(params, {0, 1, 2, 4}), confirms(params, signed)):
        with pytest.raises(Abort):
            site.receive(again)
        gives_nothing(site)


def test_survivors_are_named_once() -> None:
    """A second survivor set before the confirmations is out of turn, so one site signs one set only."""
    params = session(5, Kind.ROUND)
    site, _, _ = _after_confirming(params, frozenset({0, 1, 2, 3}))
    refuses(site, survivors(params, {0, 1, 2, 4}), Reason.OUT_OF_TURN)


def test_every_pair_of_views_of_five_sites() -> None:
    """Any two survivor sets, split in any way over the sites, with one accomplice: never both secrets of one site.

    Whoever signed gets all signatures of its own view that exist; then it is counted what was released.
    """
    params = session(5, Kind.ROUND, 2, colluders=1, threshold=4)
    sets = [frozenset(found) for size in (4, 5) for found in itertools.combinations(range(5), size)]
    any_released = 0
    for views in itertools.combinations(sets, 2):
        for split in ((0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1)):
            seeds, masking = released(params, [views[side] for side in split])
            any_released += bool(seeds)
            for index in range(5):
                # The accomplice (index 4) holds one share of each secret of everybody.
                assert min(seeds.count(index), masking.count(index)) + 1 < params.threshold
                assert not (seeds.count(index) and masking.count(index))
    assert any_released, "where enough sites agree, the sum is opened"


def released(params: SessionParameters, views: Sequence[frozenset[int]]) -> tuple[list[int], list[int]]:
    """Return of whom honest sites 0 to 3 released a share of the seed and of the masking key, under these views."""
    told, sites, signed = with_views(params, views)
    seeds: list[int] = []
    masking: list[int] = []
    for index, site in sites.items():
        view = views[index]
        items = {one: signed[one] for one in sites if views[one] == view}
        if 4 in view:
            items[4] = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, frozenset(range(5)), view))
        try:
            reply = site.receive(confirms(params, items)).reply or b""
        except Abort:
            continue
        body = memoryview(reply)[wire.HEADER :]
        cut = 2 + len(view) * (2 + wire.SHARE)
        seeds += wire.decode_items(body[:cut], wire.SHARE, 5)
        masking += wire.decode_items(body[cut:], wire.SHARE, 5)
    return seeds, masking


# --- Sums ----------------------------------------------------------------------------------------------------------


def test_different_sums_told_in_a_step_session() -> None:
    """One site is told another sum of the step before: from then on its masks do not cancel, nothing opens."""
    params = session(3, Kind.STEP, steps=2)
    sites, coordinator, frames = until(params, Type.OPENED)
    body = to_words(np.arange(5), 32, 1).tobytes()
    lied = {**frames, VICTIM: wire.encode(Type.OPENED, params.session_id, 1, body)}
    answers = sites.tell(lied)  # the lie by itself cannot be seen by the site: it would be a sum
    with pytest.raises(Abort, match="did not cancel"):
        collect(coordinator, answers)
    total = sum(np.frombuffer(frame, dtype="<u4", offset=wire.HEADER) for frame in answers.values())
    true = to_words(sum(sites.vector(name, 2) for name in params.names), 32, 3)
    assert (np.asarray(total, dtype="<u4") == true).mean() < 0.5, "nothing of the sum opens"


def test_different_sums_told_before_a_round_session() -> None:
    """Sites that were told different sums open the next session over different digests, so no signature holds."""
    params = session(3, Kind.ROUND)
    told = {name: hashlib.sha256(b"sum" if name != VICTIM else b"another").hexdigest() for name in params.names}
    sides = {name: open_site(replace(params, round=2, context=told[name]), name, POOL[name]) for name in params.names}
    items = {params.index(name): side.advertise()[wire.HEADER :] for name, side in sides.items()}
    for side in sides.values():
        frame = wire.encode(Type.KEYS, side.params.session_id, 0, wire.encode_items(items))
        refuses(side, frame, Reason.NOT_AUTHENTIC)


def test_sums_that_are_damaged_or_of_another_length() -> None:
    """A sum whose check words do not hold, or that is shorter or longer, ends the session."""
    for kind in Kind:
        params = session(3, kind)
        for change in (
            lambda body: body[:-4],
            lambda body: body + bytes(4),
            lambda _body: b"",
            lambda body: body[:-1] + b"\1",
            lambda body: bytes([body[0] ^ 1]) + body[1:],
        ):
            sites, _, frames = until(params, Type.OPENED)
            body = change(frames[VICTIM][wire.HEADER :])
            right = len(body) == len(frames[VICTIM]) - wire.HEADER
            frame = wire.encode(Type.OPENED, params.session_id, 0 if kind is Kind.ROUND else 1, body)
            refuses(sites.sites[VICTIM], frame, Reason.INCONSISTENT if right else Reason.MALFORMED)


def test_vectors_that_do_not_fit() -> None:
    """A value that could wrap the sum, another length, another type or no number never leaves the site."""
    for kind in Kind:
        params = session(3, kind)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        for value in (largest_value(32, 3) + 1, -largest_value(32, 3) - 1):
            sites, _, frames = until(params, ready)
            site = sites.sites[VICTIM]
            site.receive(frames[VICTIM])
            with pytest.raises(Abort) as caught:
                site.mask(np.array([0, 0, value, 0, 0]))
            assert caught.value.reason is Reason.OUT_OF_RANGE
            gives_nothing(site)
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        for wrong in (np.zeros(4, dtype=np.int64), np.zeros((5, 1), dtype=np.int64), np.zeros(5)):
            with pytest.raises(ValueError, match="int64 of length 5"):
                site.mask(wrong)  # type: ignore[arg-type]  # on purpose
        assert not site.ended
    with pytest.raises(Abort, match="finite"):
        FixedPoint(1.0, 32, 3).encode(np.array([np.nan]))


def test_one_vector_alone_opens_nothing() -> None:
    """All masks but one taken off are as good as none: a vector without a single peer's mask looks no clearer."""
    params = session(4, Kind.STEP, 2000)
    site, accomplices = open_site(params, VICTIM, POOL[VICTIM]), [0, 2]
    honest = open_site(params, "site-003", POOL["site-003"])
    private = {index: X25519PrivateKey.generate() for index in accomplices}
    items = {
        index: signed_keys(params, index, POOL[params.names[index]], keys.public_bytes(private[index]))
        for index in accomplices
    }
    items[1], items[3] = (each.advertise()[wire.HEADER :] for each in (site, honest))
    frame = wire.encode(Type.KEYS, params.session_id, 0, wire.encode_items(items))
    site.receive(frame)
    masked = np.frombuffer(site.mask(np.zeros(2000, dtype=np.int64)), dtype="<u4", offset=wire.HEADER).copy()
    for index in accomplices:
        secret = keys.agree(private[index], items[1][: wire.KEY])
        pair = keys.pair_key(secret, params, STEP_KEY_USE, *sorted((1, index)))
        mask = keys.mask_key(pair, b"step", (1).to_bytes(4, "big"), bytes(32))
        add_masks(masked, [mask] if index < 1 else [], [mask] if index > 1 else [])
    assert masked.any(), "the honest peer's mask is still on"
    assert abs(masked.astype(float).mean() / 2**31 - 1) < 0.1
    with pytest.raises(Abort):
        from_words(masked)


# --- Frames --------------------------------------------------------------------------------------------------------


def test_truncated_and_oversized_frames() -> None:
    """Every frame cut anywhere or with bytes behind it ends the session; the maximum is known before reading."""
    for kind in Kind:
        params = session(3, kind, 1)
        for wanted in STAGES[kind]:
            _, _, frames = until(params, wanted)
            sizes = range(0, len(frames[VICTIM]), 13)
            for size in sizes:
                sites, _, frames = until(params, wanted)
                refuses(sites.sites[VICTIM], frames[VICTIM][:size], Reason.MALFORMED)
            sites, _, frames = until(params, wanted)
            assert len(frames[VICTIM]) <= max_frame(params)
            refuses(sites.sites[VICTIM], frames[VICTIM] + bytes(max_frame(params)), Reason.MALFORMED)


def test_frames_of_no_known_form() -> None:
    """An unknown type, set reserved bytes, or nothing at all."""
    for kind in Kind:
        for change in (
            lambda frame: b"\0" + frame[1:],
            lambda frame: b"\x0c" + frame[1:],
            lambda frame: frame[:2] + b"\1" + frame[3:],
            lambda frame: frame[:39],
            lambda _frame: b"",
        ):
            sites, _, frames = until(session(3, kind), Type.KEYS)
            refuses(sites.sites[VICTIM], change(frames[VICTIM]), Reason.MALFORMED)


# --- Sites that lie to the coordinator ------------------------------------------------------------------------------


def test_garbage_shares_give_no_wrong_sum() -> None:
    """A site that releases a wrong share of a seed or of a masking key ends the session: no sum is made up."""
    params = session(4, Kind.ROUND, threshold=3)
    for place in (wire.HEADER + 10, -10):
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        frames = dict(collect(coordinator, sites.advertise()).outgoing)
        answers = sites.tell(collect(coordinator, sites.tell(frames)).outgoing)
        del answers["site-003"]  # it drops out, so that both kinds of share are asked for
        collect(coordinator, answers)
        frames = dict(collect(coordinator, sites.tell(coordinator.close().outgoing)).outgoing)
        answers = sites.tell(frames)
        lied = bytearray(answers[VICTIM])
        lied[place] ^= 1
        with pytest.raises(Abort) as caught:
            collect(coordinator, {**answers, VICTIM: bytes(lied)})
        assert caught.value.reason is Reason.NOT_AUTHENTIC
        assert coordinator.ended


def test_a_wrong_commitment_gives_no_wrong_sum() -> None:
    """A site that committed to another seed than it shared is found out when the seed is joined."""
    params = session(3, Kind.ROUND)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    answers = sites.tell(collect(coordinator, sites.advertise()).outgoing)
    lied = bytearray(answers[VICTIM])
    lied[wire.HEADER] ^= 1
    answers = sites.tell(collect(coordinator, {**answers, VICTIM: bytes(lied)}).outgoing)
    for _ in range(2):
        answers = sites.tell(collect(coordinator, answers).outgoing)
    with pytest.raises(Abort, match="committed") as caught:
        collect(coordinator, answers)
    assert caught.value.reason is Reason.NOT_AUTHENTIC
    assert not any(sites.opened.values())


def test_sites_that_are_strangers_to_the_coordinator() -> None:
    """A frame of a name that is no member is refused and costs the session nothing."""
    for kind in Kind:
        params = session(3, kind)
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        adverts = sites.advertise()
        with pytest.raises(Abort) as caught:
            coordinator.receive("site-050", adverts[VICTIM])
        assert caught.value.reason is Reason.INCONSISTENT
        assert not coordinator.ended
        assert collect(coordinator, adverts).outgoing.keys() == set(params.names)

"""A hostile coordinator against the real site side of secure sums: keys."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.attacks.secagg.hostile import (
    ACCOMPLICE,
    STAGES,
    VICTIM,
    changed_keys,
    gives_nothing,
    item_size,
    refuses,
    signed_keys,
    until,
)
from tests.support.secagg.sites import POOL, collect, session

from dura_common.errors import TrustError
from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    SessionParameters,
    keys,
    open_site,
    wire,
)
from dura_common.secagg.round_site import CONFIRM_USE
from dura_common.secagg.wire import Type


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
    said = publics + bytes(params.note_size)
    other = said + keys.sign(POOL["site-000"], CONFIRM_USE, params, 0, said)
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
            items[2] = signed_keys(params, 2, POOL[ACCOMPLICE], items[1][: -params.note_size - wire.SIGNATURE])

        refuses(sites.sites[VICTIM], changed_keys(params, frames[VICTIM], reflect), Reason.INCONSISTENT)


def test_replaced_notes() -> None:
    """The coordinator changes what a site says to the others: the site's signature covers it."""
    for kind in Kind:
        params = session(3, kind)
        begin = wire.KEY * (1 if kind is Kind.STEP else 2)
        for place in (begin, begin + params.note_size - 1):
            sites, _, frames = until(params, Type.KEYS)

            def replace(items: dict[int, bytes], place: int = place) -> None:
                items[0] = items[0][:place] + bytes([items[0][place] ^ 1]) + items[0][place + 1 :]

            refuses(sites.sites[VICTIM], changed_keys(params, frames[VICTIM], replace), Reason.NOT_AUTHENTIC)


def test_a_note_that_is_not_believed() -> None:
    """A site that does not believe what another one says ends the session before anything but its keys has left."""
    for kind in Kind:
        params = session(3, kind)
        heard: list[dict[str, bytes]] = []

        def judge(notes: Mapping[str, bytes], heard: list[dict[str, bytes]] = heard) -> None:
            heard.append(dict(notes))
            raise TrustError("not believed")

        sites, _, frames = until(params, Type.KEYS, judge)
        with pytest.raises(TrustError, match="not believed"):
            sites.sites[VICTIM].receive(frames[VICTIM])
        gives_nothing(sites.sites[VICTIM])
        assert heard == [
            {name: bytes([int(name[-1]) + 1]) * params.note_size for name in params.names if name != VICTIM}
        ]


def test_two_lists_of_keys_in_a_step_session() -> None:
    """An accomplice signs two notes, and two sites get different ones: their masks do not cancel, nothing opens."""
    params = session(3, Kind.STEP)
    sites, coordinator, frames = until(params, Type.KEYS)

    def other_note(items: dict[int, bytes]) -> None:
        publics = items[2][: wire.KEY]
        items[2] = signed_keys(params, 2, POOL[ACCOMPLICE], publics, bytes([99]) * params.note_size)

    frames[VICTIM] = changed_keys(params, frames[VICTIM], other_note)
    answers = sites.tell(frames)
    with pytest.raises(Abort, match="did not cancel"):
        collect(coordinator, answers)


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
            sizes = {Type.KEYS: item_size(params), Type.SEALED_SHARES: wire.SEALED, Type.CONFIRMS: wire.SIGNATURE}
            size = sizes.get(wanted, 0)
            for index in (3, 4, 500):
                sites, _, frames = until(params, wanted)
                body = frames[VICTIM][wire.HEADER :]
                last = body[len(body) - size :]
                longer = (int.from_bytes(body[:2], "big") + 1).to_bytes(2, "big") + body[2:] + index.to_bytes(2, "big")
                frame = wire.encode(wanted, params.session_id, 0, longer + last)
                refuses(sites.sites[VICTIM], frame, Reason.MALFORMED)

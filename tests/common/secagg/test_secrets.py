"""Secrets are shown nowhere, and nothing that outlives a session holds them."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from collections.abc import Iterator
from types import CellType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.support.secagg.sites import POOL, Sites, collect, session, vectors

from dura_common.secagg import Abort, Kind, keys, open_coordinator, open_site, round_site, wire
from dura_common.secagg.arithmetic import shamir
from dura_common.secagg.wire import Type


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Return all secret bytes that the sides draw and derive, as they do so."""
    found: set[bytes] = set()

    def spy(module: Any, name: str) -> None:
        real = getattr(module, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            found.update(result.values() if isinstance(result, dict) else [result])
            return result

        monkeypatch.setattr(module, name, noting)

    spy(keys, "agree")
    spy(keys, "pair_key")
    spy(keys, "mask_key")
    spy(shamir, "split")
    spy(round_site.secrets, "token_bytes")
    return found


def reachable(start: object) -> Iterator[object]:
    """Yield everything that an object keeps alive through attributes, containers, closures and tracebacks."""
    waiting, known = [start], set()
    while waiting:
        thing = waiting.pop()
        if id(thing) not in known and not isinstance(thing, type):
            known.add(id(thing))
            yield thing
            waiting += [*held(thing), *getattr(thing, "__dict__", {}).values()]


def held(thing: object) -> list[object]:  # noqa: PLR0911  # one line for each kind of thing
    """Return what a container, a closure, an error or one of our frames refers to."""
    match thing:
        case dict():
            return [*thing.keys(), *thing.values()]
        case list() | tuple() | set() | frozenset():
            return list(thing)
        case TracebackType():
            return [thing.tb_frame, thing.tb_next]
        case FrameType() if "/dura_common/" in thing.f_code.co_filename:
            return list(thing.f_locals.values())
        case FunctionType():
            return list(thing.__closure__ or ())
        case CellType():
            return [thing.cell_contents]
        case MethodType():
            return [thing.__self__]
        case BaseException():
            return [thing.__traceback__, thing.__cause__, thing.__context__, *thing.args]
    return []


def kept(start: object, secrets: set[bytes]) -> list[object]:
    """Return what an object keeps of the secrets, keys as objects included."""
    return [
        thing
        for thing in reachable(start)
        if isinstance(thing, X25519PrivateKey | Ed25519PrivateKey)
        or (isinstance(thing, bytes | bytearray) and any(secret in thing for secret in secrets))
    ]


def talk(kind: Kind) -> tuple[Sites, list[dict[str, bytes]]]:
    """Run an honest session to its end; return the sites and the frames to them, stage by stage."""
    params = session(3, kind, 4, threshold=3)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    stages = []
    answers = sites.advertise()
    while not coordinator.ended:
        frames = dict(collect(coordinator, answers).outgoing)
        stages.append(frames)
        answers = sites.tell(frames)
    assert all(site.ended for site in sites.sites.values())
    return sites, stages


@pytest.mark.parametrize("kind", Kind)
def test_nothing_secret_is_left_after_a_session(kind: Kind, secrets: set[bytes]) -> None:
    """When the sum is opened, the objects of all sides hold no key, seed or share any more."""
    sites, _ = talk(kind)
    assert len(secrets) >= 6
    for site in sites.sites.values():
        assert kept(site, secrets) == []


STAGES = [(Kind.STEP, stage) for stage in range(2)] + [(Kind.ROUND, stage) for stage in range(5)]


@pytest.mark.parametrize("damage", ["truncated", "damaged", "wrong type", "vector"])
@pytest.mark.parametrize(("kind", "stage"), STAGES)
def test_nothing_secret_is_left_after_an_abort(
    kind: Kind, stage: int, damage: str, secrets: set[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends a session at whatever stage, neither the site nor the error (with its frames) holds a secret."""
    caplog.set_level(logging.DEBUG)
    params = session(3, kind, 4, threshold=3)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    answers = sites.advertise()
    for _ in range(stage):
        answers = sites.tell(collect(coordinator, answers).outgoing)
    frame = bytearray(collect(coordinator, answers).outgoing["site-001"])
    site = sites.sites["site-001"]
    if kind is Kind.STEP or stage < 2:
        assert kept(site, secrets), "the search finds secrets where there are some"
    if damage == "damaged":
        frame[-1] ^= 1
    elif damage == "truncated":
        del frame[-1:]
    elif damage == "wrong type":
        frame[0] = Type.SHARES
    shown = repr(site)
    too_large = vectors(params)("site-001", 1) + 2**40
    act = (lambda: site.mask(too_large)) if damage == "vector" else (lambda: site.receive(bytes(frame)))
    with pytest.raises(
        Abort, match=r"items|signature|expected|a vector has its place|another length|damaged|altered"
    ) as caught:
        act()
    assert site.ended
    assert kept(site, secrets) == []
    assert kept(caught.value, secrets) == []
    text = shown + repr(site) + repr(caught.value) + "".join(traceback.format_exception(caught.value)) + caplog.text
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


@pytest.mark.parametrize("kind", Kind)
def test_nothing_secret_shows_while_a_session_goes_on(
    kind: Kind, secrets: set[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """At every stage of a session, sites, reactions and progress may be printed and logged: no frame, no key in it."""
    caplog.set_level(logging.DEBUG)
    params = session(3, kind, 4, threshold=3)
    coordinator = open_coordinator(params)
    sites = {name: open_site(params, name, POOL[name]) for name in params.names}
    answers, shown, frames = {name: site.advertise() for name, site in sites.items()}, "", []
    while not coordinator.ended:
        progress = collect(coordinator, answers)
        shown += f"{progress!r} {coordinator!r} {vars(coordinator).keys()}"
        answers = {}
        for name, frame in progress.outgoing.items():
            reaction = sites[name].receive(frame)
            reply = bytes(sites[name].mask(vectors(params)(name, 1))) if reaction.ready else reaction.reply
            shown += f"{sites[name]!r} {reaction!r}"
            logging.getLogger("dura_common").debug("%s %s %r", sites[name], reaction, progress)
            frames += [frame] if reply is None else [frame, reply]
            if reply is not None:
                answers[name] = reply
    assert len(secrets) >= 6
    assert len(frames) >= 6
    bodies = {frame[wire.HEADER :][:16] for frame in frames if frame[0] != Type.OPENED}
    for secret in secrets | bodies:
        assert secret.hex() not in shown + caplog.text
        assert repr(secret)[2:-1] not in shown + caplog.text


@pytest.mark.parametrize("kind", Kind)
def test_an_ended_site_answers_nothing(kind: Kind) -> None:
    """After the end every call is an abort, also for frames that were right before; leaving says so and no more."""
    sites, stages = talk(kind)
    for name, site in sites.sites.items():
        calls = [site.advertise, lambda site=site, name=name: site.mask(sites.vector(name, 1))]
        calls += [lambda site=site, frame=stage[name]: site.receive(frame) for stage in stages if name in stage]
        for call in calls:
            with pytest.raises(Abort, match="over"):
                call()
        assert wire.decode(site.leave()).type is Type.ABORT


@pytest.mark.parametrize("kind", Kind)
def test_leaving_erases(kind: Kind, secrets: set[bytes]) -> None:
    """A site that leaves keeps nothing."""
    params = session(3, kind, 4, threshold=3)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    sites.tell(collect(coordinator, sites.advertise()).outgoing)
    site = sites.sites["site-000"]
    site.leave()
    assert site.ended
    assert kept(site, secrets) == []


@pytest.mark.parametrize("kind", Kind)
def test_a_session_cannot_be_copied(kind: Kind) -> None:
    """No pickle, no copy, no deep copy: two objects with the same keys could send two vectors."""
    params = session(3, kind)
    site = open_site(params, "site-000", POOL["site-000"])
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            copying(site)


@pytest.mark.parametrize("kind", Kind)
def test_only_the_pinned_identity_opens_a_site(kind: Kind) -> None:
    """Another key than the roster's, or a name that is no member, is a mistake of the caller."""
    params = session(3, kind)
    with pytest.raises(ValueError, match="pins for this site"):
        open_site(params, "site-000", POOL["site-001"])
    with pytest.raises(ValueError, match="tuple"):
        open_site(params, "site-099", POOL["site-099"])
    with pytest.raises(ValueError, match="a note has 224 bytes in this session"):
        open_site(params, "site-000", POOL["site-000"], b"too short")

"""Attacks on the coordinator's door for researchers: what a researcher may ask, and what an answer holds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.attacks.desk.conftest import Door
from tests.attacks.desk.test_who_asks import asked, question
from tests.support.consortium import contents
from tests.support.plane.desk import CONSORTIUM, Question, pair_of
from tests.support.studies import study

from dura_common.consortium.envelope import sign
from dura_common.consortium.identity import load_certificate
from dura_common.sums.plane import MESSAGE_BYTES
from dura_server.consortium.authority import remove
from dura_server.desk.request import OF_A_STUDY, REQUEST_BYTES, REQUEST_TYPE, certificate_mark
from dura_server.studies.queue import drop, want
from dura_server.studies.researcher import sign_study
from dura_server.studies.store import StoredStudy, StudyStore


def raw(door: Door, made: Question, payload: dict[str, Any]) -> bytes:
    """Return a request that ada signed and that no honest desk would write."""
    challenge = made.challenge().hex()
    assert made.certificate is not None
    der = load_certificate(made.certificate)
    values = {
        "format": 1,
        "consortium": CONSORTIUM,
        "researcher": "ada",
        "certificate": certificate_mark(der.public_bytes(Encoding.DER)),
        "challenge": challenge,
        **payload,
    }
    return sign(json.dumps(values).encode(), REQUEST_TYPE, door.ada.identity()).encode()


@pytest.mark.parametrize("action", sorted(OF_A_STUDY))
def test_a_foreign_study_is_like_none(door: Door, action: str) -> None:
    """Whatever is asked, another researcher's study and a study that does not exist get the same words."""
    words = []
    for digest in (door.of_eve.digest, "ab" * 32):
        (message,) = asked(door, door.ada, "ada", action=action, study=digest)
        assert message.WhichOneof("kind") == "refusal"
        assert message.refusal.code == "state"
        words.append(message.refusal.message.replace(digest[:12], "..."))
    assert words[0] == words[1]
    assert "has submitted no study" in words[0]


def test_a_study_that_somebody_else_signed(door: Door) -> None:
    """Nobody submits in another researcher's name, and nothing is stored."""
    roster, envelope = door.plane.roster()
    wanted = study(name="arms", sites=dict.fromkeys(door.plane.names, 40), expires="2099-01-01")
    signed, _ = sign_study(door.eve, wanted, envelope)
    before = contents(door.plane.coordinator.studies)
    (message,) = asked(door, door.ada, "ada", action="submit", document=signed)
    assert (message.refusal.code, "not signed by the researcher" in message.refusal.message) == ("trust", True)
    late, _ = sign_study(
        door.ada, wanted.model_copy(update={"expires": door.plane.now().date().replace(2020)}), envelope
    )
    (message,) = asked(door, door.ada, "ada", action="submit", document=late)
    assert (message.refusal.code, "has expired" in message.refusal.message) == ("input", True)
    other, _ = sign_study(door.ada, wanted.model_copy(update={"sites": {"north": 40, "east": 40}}), envelope)
    for text in (other.replace("payload", "payloads"), "{}", "", other[:-400]):
        (message,) = asked(door, door.ada, "ada", action="submit", document=text)
        assert message.refusal.code in {"trust", "input"}
    assert contents(door.plane.coordinator.studies) == before
    assert roster.researchers


@pytest.mark.parametrize(
    "payload",
    [
        {"action": "look", "study": "../" + "a" * 61},
        {"action": "look", "study": "/etc/passwd"},
        {"action": "look", "study": "A" * 64},
        {"action": "look", "study": "a" * 64 + "\n"},
        {"action": "look", "study": None},
        {"action": "list", "study": "a" * 64},
        {"action": "submit"},
        {"action": "list", "document": "x"},
        {"action": "rm -rf"},
        {"action": "__import__"},
        {"action": "list", "home": "/root"},
        {"action": "list", "env": {"PATH": "."}},
        {"action": "rosters", "serial": -1},
        {"action": "rosters", "serial": 10**9},
        {"action": "list", "format": 2},
        {"action": ["list"]},
    ],
    ids=lambda payload: str(sorted(payload.items()))[:40],
)
def test_words_that_are_no_request(door: Door, payload: dict[str, Any]) -> None:
    """Paths, commands, unknown fields: refused before anything is looked up."""
    before = contents(door.plane.coordinator.path)
    with question(door, pair_of(door.ada)) as made:
        made.send(raw(door, made, payload))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED
    assert contents(door.plane.coordinator.path) == before


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (0, grpc.StatusCode.PERMISSION_DENIED),
        (REQUEST_BYTES + 1, grpc.StatusCode.PERMISSION_DENIED),
        (MESSAGE_BYTES + 1, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (64 << 20, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_messages_that_are_too_large_or_empty(door: Door, size: int, code: grpc.StatusCode) -> None:
    """The largest request is known before it is read."""
    with question(door, pair_of(door.ada)) as made:
        made.challenge()
        made.send(bytes(size))
        assert made.refusal() == code


def test_no_model_before_the_end(door: Door) -> None:
    """A checkpoint or a half-trained model is no outcome."""
    door.of_ada.model_file.write_bytes(b"half")
    try:
        (message,) = asked(door, door.ada, "ada", action="model", study=door.of_ada.digest)
        assert "has not finished" in message.refusal.message
        (message,) = asked(door, door.ada, "ada", action="result", study=door.of_ada.digest)
        assert "has not finished" in message.refusal.message
    finally:
        door.of_ada.model_file.unlink()


def test_questions_that_are_left_alone_hold_nobody_up(door: Door) -> None:
    """Who asks for work again and again and never waits for it keeps no other researcher waiting, and keeps no memory.

    Each of these questions takes a process that imports Flower: a second and more.
    """
    for _ in range(30):
        with question(door, pair_of(door.ada)) as made:
            made.send(made.request(door.ada, "ada", made.challenge(), action="look", study=door.of_ada.digest))
            time.sleep(0.05)  # the request arrives before the connection is gone
    begin = time.monotonic()
    asked(door, door.eve, "eve", action="look", study=door.of_eve.digest)
    alone = time.monotonic()
    asked(door, door.eve, "eve", action="look", study=door.of_eve.digest)
    once = time.monotonic() - alone
    assert alone - begin < 4 * once + 2


def test_an_answer_tells_nothing_of_the_machine(door: Door) -> None:
    """No path, no number of a process, no reason of the machine's own; the operator's log has the reason."""
    root = str(door.plane.root).encode()
    answers = asked(door, door.ada, "ada", action="look", study=door.of_ada.digest)
    answers += asked(door, door.ada, "ada", action="watch", study=door.of_ada.digest)
    answers += asked(door, door.ada, "ada", action="run", study=door.of_ada.digest)
    assert not any(root in message.SerializeToString() for message in answers)
    assert answers[-1].refusal.message == "the coordinator could not do it; its log has the reason"
    assert "services are not running" in door.plane.log
    seen = json.loads(answers[0].part.data)
    assert set(seen) == {"digest", "study", "state", "connected", "sums", "queued", "model"}
    assert (seen["state"]["run"], seen["state"]["attempts"]) == (None, {})


@contextmanager
def many(door: Door, count: int) -> Iterator[list[StoredStudy]]:
    """Let ada have submitted so many more studies during a block."""
    roster, envelope = door.plane.roster()
    made = []
    for number in range(count):
        wanted = study(name=f"more-{number}", sites=dict.fromkeys(door.plane.names, 40), expires="2099-01-01")
        signed, _ = sign_study(door.ada, wanted, envelope)
        made.append(StudyStore(door.plane.coordinator).submit(signed, envelope, roster))
    try:
        yield made
    finally:
        for one in made:
            shutil.rmtree(one.folder)


def test_a_flood_of_studies(door: Door) -> None:
    """Each offer is a process of more than 100 MiB; a hospital that says nothing keeps it alive for half a minute."""
    store = StudyStore(door.plane.coordinator)
    with many(door, 4) as made:
        for one in made:
            one.update(phase="starting")  # as the errand of an offer leaves it, until its process has ended
        _, envelope = door.plane.roster()
        signed, digest = sign_study(door.ada, made[0].study.model_copy(update={"name": "one-too-many"}), envelope)
        (message,) = asked(door, door.ada, "ada", action="submit", document=signed)
        assert "4 studies of this researcher are being offered" in message.refusal.message
        assert digest not in store.digests()
        made[0].update(phase="offered")
        (message,) = asked(door, door.ada, "ada", action="submit", document=signed)
        assert "are being offered" not in message.refusal.message
        assert digest in store.digests()
        shutil.rmtree(door.plane.coordinator.studies / digest)


def test_a_flood_of_places_in_the_queue(door: Door) -> None:
    """A study that nobody has approved takes its turn like any other: nobody has many turns before somebody else's."""
    now = door.plane.now()
    with many(door, 8) as made:
        for one in made:
            want(one, now, now)
        (message,) = asked(door, door.ada, "ada", action="run", study=door.of_ada.digest)
        assert "8 studies of this researcher are in the queue" in message.refusal.message
        for one in (made[0], door.of_ada):  # who has a place keeps it
            drop(made[1])
            (message,) = asked(door, door.ada, "ada", action="run", study=one.digest)
            assert "are in the queue" not in message.refusal.message


def test_a_failure_tells_no_path(door: Door) -> None:
    """A disk that failed has left its path in the state of a study, and a missing file stands in an error."""
    root, stored = door.plane.coordinator.path, door.of_ada
    before = stored.read_state()
    stored.update(phase="failed", message=f"the opened sums cannot be read: {root}/studies/sums: Input/output error")
    answers = [
        message
        for action in ("look", "watch")
        for message in asked(door, door.ada, "ada", action=action, study=stored.digest)
    ]
    answers += asked(door, door.ada, "ada")
    stored.update(phase="finished")
    answers += asked(door, door.ada, "ada", action="result", study=stored.digest)
    stored.update(**before.model_dump())
    assert [message.WhichOneof("kind") for message in answers] == ["part", "part", "part", "refusal"]
    assert b"Input/output error" in answers[0].part.data
    assert not any(str(root).encode() in message.SerializeToString() for message in answers)


def test_a_removed_researcher(door: Door) -> None:
    """Once the sites have countersigned the removal, an open question ends and a new one is refused."""
    plane = door.plane
    door.of_eve.update(phase="starting")
    before = door.of_eve.read_state()
    with question(door, pair_of(door.eve)) as made:
        made.send(made.request(door.eve, "eve", made.challenge(), action="watch", study=door.of_eve.digest))
        assert next(made.call).WhichOneof("kind") == "part"
        remove(plane.authority, "eve", plane.now())
        plane.agree()
        door.of_eve.update(phase="starting", message="a change")
        last = made.rest()[-1]
        assert "does not list this researcher any more" in last.refusal.message
    with question(door, pair_of(door.eve)) as made:
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED
    assert len(asked(door, door.ada, "ada")) == 1
    door.of_eve.update(**before.model_copy(update={"phase": "submitted"}).model_dump())

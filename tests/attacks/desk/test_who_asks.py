"""Attacks on the coordinator's door for researchers: who gets in, and with whose word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from cryptography import x509
from tests.attacks.desk.conftest import Door
from tests.attacks.plane.intruders import Forger, stream, uri
from tests.support.plane.desk import Question, pair_of
from tests.support.plane.stream import identity_of, own

from dura_common.consortium.identity import researcher_uri
from dura_common.messages.proto.desk_pb2 import ToDesk
from dura_server.desk.view import StudyView
from dura_server.studies.researcher import ResearcherHome


@contextmanager
def question(door: Door, pair: tuple[bytes, bytes] | None) -> Iterator[Question]:
    """Ask, and close."""
    made = Question(door.plane, pair)
    try:
        yield made
    finally:
        made.close()


def asked(door: Door, home: ResearcherHome, name: str, **changes: Any) -> list[ToDesk]:
    """Return the answer to an honest question but for the changes."""
    with question(door, pair_of(home)) as made:
        made.send(made.request(home, name, made.challenge(), **changes))
        return made.rest()


def named(name: str) -> x509.UniformResourceIdentifier:
    """Return the name of a researcher in a certificate."""
    return x509.UniformResourceIdentifier(researcher_uri(name))


def test_an_honest_question_is_answered(door: Door) -> None:
    """Otherwise, the refusals below would mean nothing; each researcher sees the own study alone."""
    for home, name, stored in ((door.ada, "ada", door.of_ada), (door.eve, "eve", door.of_eve)):
        (message,) = asked(door, home, name)
        view = StudyView.model_validate_json(message.part.data)
        assert (view.digest, view.study, message.part.last) == (stored.digest, stored.study, True)


def test_without_a_certificate(door: Door) -> None:
    """TLS refuses who shows none."""
    with question(door, None) as made:
        assert made.refusal() == grpc.StatusCode.UNAVAILABLE


def test_a_site_at_the_desk(door: Door) -> None:
    """A hospital's certificate opens no question, not even for a challenge."""
    with question(door, own(door.plane, "north")) as made:
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_a_researcher_at_the_secure_sums(door: Door) -> None:
    """A researcher's certificate attends no sum."""
    with stream(door.plane, pair_of(door.ada)) as made:
        made.hello(door.plane.params(number=60), identity_of(door.plane, "north"))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "names",
    [
        [named("ada")],
        [named("ada"), named("eve")],
        [named("ada"), uri("north")],
        [uri("ada")],
        [named("")],
        [named("nobody")],
        [named("ada/../eve")],
        [x509.DNSName("ada")],
        [],
    ],
    ids=["other-key", "two", "researcher-and-site", "as-site", "empty", "not-on-roster", "path", "dns", "none"],
)
def test_certificates_that_are_no_researchers(door: Door, names: list[x509.GeneralName]) -> None:
    """Of the right authority, even with a real name: the roster lists the key of the desk, too."""
    with question(door, Forger(door.plane).issue(names, common_name="ada")) as made:
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_one_researcher_in_the_name_of_another(door: Door) -> None:
    """With the own certificate and the other's name, and with the other's certificate and the own signature."""
    with question(door, pair_of(door.eve)) as made:
        made.send(made.request(door.eve, "ada", made.challenge()))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED
    with question(door, pair_of(door.ada)) as made:  # a stolen TLS key alone
        made.send(made.request(door.eve, "ada", made.challenge()))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_a_recorded_request_is_worth_nothing(door: Door) -> None:
    """The very bytes that were answered a moment ago, on a new connection of the same desk."""
    with question(door, pair_of(door.ada)) as made:
        recorded = made.request(door.ada, "ada", made.challenge())
        made.send(recorded)
        assert len(made.rest()) == 1
    with question(door, pair_of(door.ada)) as made:
        made.challenge()
        made.send(recorded)
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "changes",
    [{"consortium": "other"}, {"certificate": "00" * 32}, {"challenge": "00" * 32}],
    ids=["another-consortium", "another-certificate", "another-challenge"],
)
def test_a_request_for_another_connection(door: Door, changes: dict[str, str]) -> None:
    """A coordinator of another consortium cannot pass on what a researcher signed for it."""
    with question(door, pair_of(door.ada)) as made:
        made.send(made.request(door.ada, "ada", made.challenge(), **changes))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_a_request_that_does_not_come(door: Door) -> None:
    """A question without a request ends by itself."""
    with question(door, pair_of(door.ada)) as made:
        made.challenge()
        assert made.refusal() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_too_many_questions(door: Door) -> None:
    """The ninth open question of a researcher is refused; the other researcher and the sites do not notice."""
    open_ones = [Question(door.plane, pair_of(door.ada)) for _ in range(8)]
    try:
        for made in open_ones:
            made.challenge()
        with question(door, pair_of(door.ada)) as made:
            assert made.refusal() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(asked(door, door.eve, "eve")) == 1
    finally:
        for made in open_ones:
            made.close()

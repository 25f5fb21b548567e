"""A desk in front of a coordinator that lies: what it believes, keeps and says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.commands import failed
from tests.support.consortium import Consortium, contents, local_settings
from tests.support.studies import study

from dura_common.consortium.chain import Link
from dura_common.consortium.identity import load_certificate
from dura_common.errors import DuraError, HostError, InputError, StateError, TrustError
from dura_common.messages.proto.desk_pb2 import FromDesk, Part, Refusal, ToDesk
from dura_common.messages.proto.desk_pb2_grpc import DeskServicer, add_DeskServicer_to_server
from dura_common.sums.plane import PIECE_BYTES
from dura_server.desk import client as module
from dura_server.desk.client import DeskClient, Unreachable
from dura_server.desk.membership import check_admission, join, load_membership
from dura_server.desk.request import read_request
from dura_server.desk.view import StudyView, view_of

Answer = Callable[[bytes], Iterable[ToDesk]]
CHALLENGE = bytes(range(32))


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium of the present whose researcher has joined."""
    made = Consortium(tmp_path, settings=local_settings(), moment=None)
    made.make_all()
    join(made.researcher, *check_admission(made.researcher, made.admission("ada"), made.now()))
    return made


@pytest.fixture
def view(consortium: Consortium) -> StudyView:
    """Return a study as an honest coordinator shows it."""
    return view_of(consortium.submit(study(sites=dict.fromkeys(consortium.names, 40), expires="2099-01-01"))[0])


class _Liar(DeskServicer):
    def __init__(self, answer: Answer, opening: ToDesk) -> None:
        self._answer, self._opening = answer, opening

    def Ask(self, requests: Iterator[FromDesk], _context: object) -> Iterator[ToDesk]:  # noqa: N802  # the protocol's
        yield self._opening
        yield from self._answer(next(requests).request)


@contextmanager
def coordinator(consortium: Consortium, answer: Answer, opening: ToDesk | None = None) -> Iterator[DeskClient]:
    """Serve answers with the real certificate of the coordinator, and return a desk."""
    keys = consortium.coordinator.keys
    pair = ((keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
    clients = (keys / "clients.pem").read_bytes()
    server = grpc.server(ThreadPoolExecutor(2))
    liar = _Liar(answer, opening or ToDesk(challenge=CHALLENGE))
    add_DeskServicer_to_server(liar, server)
    credentials = grpc.ssl_server_credentials([pair], clients, require_client_auth=True)
    server.add_secure_port(consortium.settings.aggregation, credentials)
    server.start()
    try:
        yield DeskClient(load_membership(consortium.researcher), consortium.now())
    finally:
        server.stop(0)


def part(content: bytes, *, last: bool = True) -> ToDesk:
    """Return a part of an answer."""
    return ToDesk(part=Part(data=content, last=last))


def refusal(code: str) -> ToDesk:
    """Return a refusal."""
    return ToDesk(refusal=Refusal(code=code, message="no", hint="ask"))


def test_a_request_names_its_connection(consortium: Consortium) -> None:
    """What leaves is signed by the researcher for this challenge, this certificate and this consortium."""
    sent: list[bytes] = []
    with coordinator(consortium, lambda content: sent.append(content) or []) as desk:
        assert list(desk.documents("list", StudyView)) == []
    here = load_membership(consortium.researcher)
    der = load_certificate(consortium.researcher.certificate.read_bytes()).public_bytes(Encoding.DER)
    given = {"researcher": here.mine, "consortium": "test", "certificate": der, "challenge": CHALLENGE}
    assert read_request(sent[0], **given).action == "list"
    for change in ({"consortium": "other"}, {"certificate": der + b"0"}, {"challenge": bytes(32)}):
        with pytest.raises(TrustError, match="another connection"):
            read_request(sent[0], **{**given, **change})


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ([part(b"{}")], InputError, "the coordinator's answer"),
        ([part(b'{"digest": "../x"}')], InputError, "the coordinator's answer"),
        ([part(b"x" * 10, last=False)], TrustError, "no part of an answer"),
        ([part(b"x" * PIECE_BYTES, last=False)], Unreachable, "in the middle of an answer"),
        ([part(b" " * PIECE_BYTES, last=False)] * 3, TrustError, "document of more than"),
        ([ToDesk(challenge=CHALLENGE)], TrustError, "no part of an answer"),
        ([ToDesk()], TrustError, "no part of an answer"),
        ([refusal("state")], StateError, "the coordinator says: no"),
        ([refusal("trust")], TrustError, "the coordinator says: no"),
        ([refusal("a new kind")], HostError, "the coordinator says: no"),
    ],
)
def test_answers_that_are_none(
    consortium: Consortium,
    monkeypatch: pytest.MonkeyPatch,
    answer: list[ToDesk],
    kind: type[DuraError],
    words: str,
) -> None:
    """Each ends in one error of its family, and nothing is written."""
    monkeypatch.setattr(module, "DOCUMENT_BYTES", 2 * PIECE_BYTES)
    before = contents(consortium.researcher.path)
    with coordinator(consortium, lambda _: answer) as desk, pytest.raises(kind, match=words):
        list(desk.documents("list", StudyView))
    assert contents(consortium.researcher.path) == before


def test_a_model_without_an_end(consortium: Consortium) -> None:
    """A file stops at its limit."""
    endless = (part(bytes(PIECE_BYTES), last=False) for _ in range(100))
    with coordinator(consortium, lambda _: endless) as desk, pytest.raises(TrustError, match="more than 1000000 bytes"):
        b"".join(desk.content("model", 1_000_000, study="ab" * 32))


def test_an_answer_without_an_end(consortium: Consortium, monkeypatch: pytest.MonkeyPatch, view: StudyView) -> None:
    """Small documents one after another stop at a limit, too: a desk keeps them all until the answer is over."""
    monkeypatch.setattr(module, "ANSWER_BYTES", 100_000)
    endless = (part(view.model_dump_json().encode()) for _ in range(10_000))
    with coordinator(consortium, lambda _: endless) as desk, pytest.raises(TrustError, match="more than 100000 bytes"):
        list(desk.documents("list", StudyView))
    many = [part(view.model_dump_json().encode())] * 200
    with coordinator(consortium, lambda _: many) as desk:  # who watches keeps none of them
        assert sum(1 for _ in desk.documents("watch", StudyView, study=view.digest)) == 200


@pytest.mark.parametrize("opening", [ToDesk(), ToDesk(challenge=b""), ToDesk(challenge=bytes(31)), part(b"{}")])
def test_without_a_challenge_nothing_is_signed(consortium: Consortium, opening: ToDesk) -> None:
    """A request that would be good for more than one connection never exists."""
    sent: list[bytes] = []
    with (
        coordinator(consortium, lambda content: sent.append(content) or [], opening) as desk,
        pytest.raises(TrustError, match="did not begin with a challenge"),
    ):
        list(desk.documents("list", StudyView))
    assert sent == []


def test_a_coordinator_of_another_authority(consortium: Consortium, tmp_path: Path) -> None:
    """TLS ends it before anything is signed: the roster says which authority certifies the coordinator."""
    other = Consortium(tmp_path / "other", settings=consortium.settings, moment=None)
    other.make_all()
    join(other.researcher, *check_admission(other.researcher, other.admission("ada"), other.now()))
    with coordinator(other, lambda _: []):
        desk = DeskClient(load_membership(consortium.researcher), consortium.now())
        with pytest.raises(Unreachable, match="does not answer"):
            list(desk.documents("rosters", Link))


def test_nobody_there_and_an_expired_certificate(consortium: Consortium) -> None:
    """Both say what to do."""
    command = ("study", "list", "--researcher", consortium.researcher)
    refused = failed(*command, code=15, here=True)
    assert "does not answer" in refused.error["message"]
    assert "firewall" in refused.error["hint"]
    here = load_membership(consortium.researcher)
    with pytest.raises(TrustError, match="has expired") as caught:
        DeskClient(here, datetime.now(UTC) + timedelta(days=900))
    assert "dura study join" in caught.value.hint

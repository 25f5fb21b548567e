"""The coordinator's door for researchers, on the public port of the secure sums: mutual TLS, one question a stream.

Every question must pass these checks, in this order:

1. TLS 1.3 with a certificate of the consortium's authority (by gRPC; otherwise, the connection is closed);
2. the certificate names one researcher on the current roster, for the TLS key on the roster;
3. few questions are open, of this researcher and of all;
4. the request comes soon and is small, and the researcher's identity has signed it for this connection;
5. the researcher has signed the study that the question is about.

A roster without the researcher ends an open question, too. Nothing that a researcher sends becomes a path, a command or
an environment: an action is one word of a list, and a study is named by its digest alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from dura_common.consortium.identity import researcher_uri, tls_public_text
from dura_common.consortium.roster import Roster, RosterResearcher
from dura_common.errors import DuraError, HostError, InputError, TrustError
from dura_common.messages.proto.desk_pb2 import Part, Refusal, ToDesk
from dura_common.messages.proto.desk_pb2_grpc import DeskServicer
from dura_common.sums.plane import PIECE_BYTES
from dura_server.desk.answers import Answers
from dura_server.desk.request import Request, new_challenge, read_request
from dura_server.desk.view import without_paths
from dura_server.home import CoordinatorHome
from dura_server.sums.identity import AuthContext, RosterWatch, admitted, certificate_of, named
from dura_server.sums.service import RunningSessions

log = logging.getLogger(__name__)

QUESTIONS_EACH = 8
"""Open questions of one researcher: a few that watch studies, and one that acts."""
QUESTIONS = 64
"""Open questions of all researchers, so that the sites' streams always find room."""
REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated researcher at the other end of a connection."""

    member: RosterResearcher
    certificate: bytes
    """DER."""


def identify_researcher(auth_context: AuthContext, roster: Roster) -> Caller:
    """Return the researcher that a connection's certificate names.

    Raises:
        TrustError: there is no certificate, it has not exactly one name of a researcher, or the roster does not list
            this researcher with this key.
    """
    certificate = certificate_of(auth_context)
    name = named(certificate, researcher_uri(""))
    member = next((one for one in roster.researchers if one.name == name), None)
    if member is None:
        raise TrustError(f"{name[:40]!r} is no researcher on the roster")
    if tls_public_text(certificate.public_key()) != member.tls_key:
        raise TrustError("the client certificate is not for the TLS key on the roster")
    return Caller(member, certificate.public_bytes(Encoding.DER))


class DeskService(DeskServicer):
    """See the module."""

    def __init__(self, home: CoordinatorHome, roster: RosterWatch, sessions: RunningSessions) -> None:
        self._roster = roster
        self._answers = Answers(home, sessions)
        self._open: Counter[str] = Counter()

    async def Ask(self, _requests: object, context: Any) -> None:  # noqa: N802  # the name in the protocol
        """Serve one question from the challenge to the last document."""
        caller = await admitted(context, identify_researcher, self._roster)  # steps 1 and 2
        name = caller.member.name
        if self._open[name] >= QUESTIONS_EACH or self._open.total() >= QUESTIONS:  # step 3
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many open questions")
        with self._counted(name):
            request = await self._request(caller, context)  # step 4
            log.info("%s asks: %s %s", name, request.action, (request.study or "")[:12])
            try:
                async for document in self._answers.to(
                    caller.member, request, lambda: self._require_member(caller)
                ):  # step 5
                    self._require_member(caller)
                    await _write(context, document)
            except HostError as error:
                log.warning("%s could not be answered: %s %s", name, error.message, error.hint)
                await _refuse(context, HostError("the coordinator could not do it; its log has the reason"))
            except DuraError as error:
                log.info("%s was refused: %s", name, error.message)
                await _refuse(context, error)

    async def _request(self, caller: Caller, context: Any) -> Request:
        challenge = new_challenge()
        await context.write(ToDesk(challenge=challenge))
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                message = await context.read()
        except TimeoutError:
            log.warning("refused %s: no request within %.0f s", caller.member.name, REQUEST_SECONDS)
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request")
        content = b"" if message is grpc.aio.EOF else message.request
        try:
            return read_request(
                content,
                researcher=caller.member,
                consortium=self._roster.now().consortium,
                certificate=caller.certificate,
                challenge=challenge,
            )
        except (TrustError, InputError) as error:
            log.warning("refused %s: %s", caller.member.name, error.message)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a request of this researcher")
        raise AssertionError  # abort never returns

    def _require_member(self, caller: Caller) -> None:
        if caller.member not in self._roster.now().researchers:
            raise TrustError("the roster does not list this researcher any more")

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1


async def _write(context: Any, document: AsyncIterator[bytes]) -> None:
    """Write one document; ``document`` yields it in pieces of :data:`PIECE_BYTES`, the last one shorter."""
    before: bytes | None = None
    async for piece in document:
        if before is not None:
            await context.write(ToDesk(part=Part(data=before)))
        before = piece
    await context.write(ToDesk(part=Part(data=before or b"", last=True)))


async def _refuse(context: Any, error: DuraError) -> None:
    message, hint = (without_paths(text)[:1000] for text in (error.message, error.hint))
    refusal = Refusal(code=error.code, message=message, hint=hint)
    await context.write(ToDesk(refusal=refusal))


__all__ = ["PIECE_BYTES", "DeskService", "identify_researcher"]

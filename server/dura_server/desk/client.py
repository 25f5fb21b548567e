"""A researcher's way to the coordinator: one stream a question, with the certificate and the signature of this desk.

The coordinator is a stranger to this machine: its certificate must be of the authority that the followed roster names,
every document has a largest size and a strict schema, and nothing that it sends is run, opened or taken for a path.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ValidationError

from dura_common.consortium.identity import check_issued, load_certificate
from dura_common.consortium.keyfile import private_pem
from dura_common.errors import DuraError, HostError, TrustError
from dura_common.messages.proto.desk_pb2 import FromDesk, ToDesk
from dura_common.messages.proto.desk_pb2_grpc import DeskStub
from dura_common.runtime.files import read_limited
from dura_common.study import explain_validation
from dura_common.sums.plane import PIECE_BYTES, SITE_OPTIONS, Options
from dura_server.desk.membership import RENEWAL, Membership
from dura_server.desk.request import CHALLENGE_BYTES, Action, Request, certificate_mark, sign_request

DOCUMENT_BYTES = 32 << 20
"""Largest document but a model: a roster with the countersignatures of 500 sites."""
ANSWER_BYTES = 256 << 20
"""Largest answer of many documents: as many rosters as come at once, or all studies of one researcher. A desk that
watches keeps one document at a time."""
ANSWER_SECONDS = 300.0
"""For everything but watching; to stop a study can take a minute, to start one two."""
LOOPBACK = ("127.", "localhost:", "[::1]:")

M = TypeVar("M", bound=BaseModel)


class Unreachable(HostError):
    """The coordinator did not answer, so it may be asked again."""


class DeskClient:
    """Asks the coordinator of one membership.

    Raises:
        TrustError: the certificate of this desk has expired, or is not of this consortium.
    """

    def __init__(self, here: Membership, now: datetime) -> None:
        self._here = here
        certificate = read_limited(here.home.certificate, what="the certificate of this desk")
        loaded = load_certificate(certificate)
        check_issued(loaded, load_certificate(here.roster.clients.encode()), now, renewal=RENEWAL)
        self._mark = certificate_mark(loaded.public_bytes(Encoding.DER))
        self._credentials = grpc.ssl_channel_credentials(
            here.roster.authority.encode(), private_pem(here.home.tls_key()), certificate
        )

    @property
    def address(self) -> str:
        """Where the coordinator is, as the roster says."""
        return self._here.roster.aggregation

    def documents(self, action: Action, model: type[M], **fields: Any) -> Iterator[M]:
        """Ask, and yield the documents of the answer as they come.

        Raises:
            Unreachable: the coordinator does not answer, or the connection was lost.
            InputError: a document is not what was asked for.
            TrustError: a document, or the answer, grows beyond its limit.
            DuraError: what the coordinator refuses, in the family of its reason.
        """
        parts: list[bytes] = []
        size = total = 0
        for data, last in self._parts(action, fields):
            parts.append(data)
            size += len(data)
            total += len(data)
            if size > DOCUMENT_BYTES:
                raise TrustError(f"the coordinator sent a document of more than {DOCUMENT_BYTES} bytes")
            if total > ANSWER_BYTES and action != "watch":
                raise TrustError(f"the coordinator sent an answer of more than {ANSWER_BYTES} bytes")
            if last:
                try:
                    yield model.model_validate_json(b"".join(parts))
                except ValidationError as error:
                    raise explain_validation(error, what="the coordinator's answer") from error
                parts, size = [], 0

    def content(self, action: Action, limit: int, **fields: Any) -> Iterator[bytes]:
        """Ask, and yield the one document of the answer in pieces.

        Raises:
            TrustError: it grows beyond ``limit`` bytes.
            DuraError: as :meth:`documents`.
        """
        size = 0
        for data, last in self._parts(action, fields):
            size += len(data)
            if size > limit:
                raise TrustError(f"the coordinator sent more than {limit} bytes")
            yield data
            if last:
                return

    def _parts(self, action: Action, fields: dict[str, Any]) -> Iterator[tuple[bytes, bool]]:
        with self._ask(action, fields) as call:
            done = True
            for message in _received(call, self.address):
                kind = message.WhichOneof("kind")
                if kind == "refusal":
                    raise _refused(message)
                if kind != "part" or (not message.part.last and len(message.part.data) != PIECE_BYTES):
                    raise TrustError("the coordinator sent something that is no part of an answer")
                done = message.part.last
                yield message.part.data, done
            if not done:
                raise Unreachable("the connection to the coordinator was lost in the middle of an answer")

    @contextmanager
    def _ask(self, action: Action, fields: dict[str, Any]) -> Iterator[Any]:
        options: Options = list(SITE_OPTIONS)
        if self.address.startswith(LOOPBACK):
            options.append(("grpc.enable_http_proxy", 0))
        outgoing: queue.SimpleQueue[FromDesk | None] = queue.SimpleQueue()
        with grpc.secure_channel(self.address, self._credentials, options) as channel:
            seconds = None if action == "watch" else ANSWER_SECONDS
            call = DeskStub(channel).Ask(iter(outgoing.get, None), timeout=seconds)
            try:
                outgoing.put(FromDesk(request=self._sign(call, action, fields)))
                yield call
            finally:
                call.cancel()
                outgoing.put(None)  # gRPC's thread may wait for one more

    def _sign(self, call: Any, action: Action, fields: dict[str, Any]) -> bytes:
        first = next(_received(call, self.address), None)
        if first is None or first.WhichOneof("kind") != "challenge" or len(first.challenge) != CHALLENGE_BYTES:
            raise TrustError("the coordinator did not begin with a challenge")
        request = Request(
            consortium=self._here.roster.consortium,
            researcher=self._here.mine.name,
            certificate=self._mark,
            challenge=first.challenge.hex(),
            action=action,
            **fields,
        )
        return sign_request(request, self._here.home.identity())


def _received(call: Any, address: str) -> Iterator[ToDesk]:
    try:
        yield from call
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code is grpc.StatusCode.PERMISSION_DENIED:
            raise TrustError(
                "the coordinator does not admit this researcher",
                hint="Its roster must list the card of this folder. The operator sees the reason in aggregator.log.",
            ) from error
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise HostError("this researcher has too many open questions", hint="End a `dura study watch`.") from error
        if code is grpc.StatusCode.UNIMPLEMENTED:
            raise HostError("the coordinator runs an earlier version of dura, which admits no researchers") from error
        raise Unreachable(
            f"the coordinator at {address} does not answer",
            hint="Do its services run? A firewall must let this machine connect to that port.",
        ) from error


def _refused(message: ToDesk) -> DuraError:
    """Return the coordinator's reason in its own family."""
    families = {family.code: family for family in DuraError.__subclasses__()}
    refusal = message.refusal
    return families.get(refusal.code, HostError)(f"the coordinator says: {refusal.message}", hint=refusal.hint)

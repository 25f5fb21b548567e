"""The agreement of both ends of the aggregation plane: limits, channel settings, frames in pieces, identity.

A frame of the secure aggregation is sent in pieces. gRPC therefore never accepts more than one piece at a time, and the
study gives the limit of a whole frame: :class:`Assembler` refuses the first byte beyond it. Keep-alive notices a peer
whose machine hangs while TCP still answers. Among gRPC's settings, only ``ping_timeout_ms`` matters (its default is a
minute).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dura_common.errors import InputError, TrustError
from dura_common.messages.proto.aggregation_pb2 import FromSite, Piece, ToSite

PIECE_BYTES = 262_144
"""Every piece of a frame except the last has exactly this size, so nobody can keep a frame open byte by byte.

gRPC lets a whole message be on the way at once, so :data:`WINDOW_BYTES` cannot be smaller.
"""
MESSAGE_BYTES = PIECE_BYTES + 65_536
"""gRPC's limit in both directions; a Hello or Begin with 500 names of 31 letters is below 17 kB."""
HELLO_BYTES = 32_768
"""Largest first message of a stream: nothing else is accepted before the coordinator knows the session."""

APPROVED = hashlib.sha256(b"dura: a study was approved here").digest()
"""In place of a session, in a site's first message: the coordinator may ask for approvals now. It says no more."""

NOTICE_MS = 1_200
"""Quiet time after which a peer is asked for a sign of life."""
ANSWER_MS = 3_000
"""Time for the answer. With :data:`NOTICE_MS`, a frozen peer is noticed within five seconds (4.2 measured)."""

WINDOW_BYTES = PIECE_BYTES
"""The largest amount of data that either side has on the way. A reply to a keep-alive ping waits behind this data, and
gRPC's own window grows with the line: a site that uploaded 4 MB over 3 Mbit/s was taken for frozen. With this window, a
line of 1 Mbit/s is enough (measured; 0.8 is not), and 5 MB/s still pass at a round-trip time of 50 ms."""

Options = list[tuple[str, int]]
M = TypeVar("M", FromSite, ToSite)

_BOTH: Options = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", NOTICE_MS),
    ("grpc.keepalive_timeout_ms", ANSWER_MS),
    ("grpc.http2.ping_timeout_ms", ANSWER_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
]

SITE_OPTIONS: Options = [
    *_BOTH,
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),  # the failure of a session must not delay the next one
]

SERVER_OPTIONS: Options = [
    *_BOTH,
    ("grpc.so_reuseport", 0),  # otherwise, a second service could share the port and get half of the sites
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_concurrent_streams", 4),  # of one connection; a site needs one, and a second while it reconnects
    ("grpc.server_handshake_timeout_ms", 5_000),  # slow-loris: a connection that does not complete TLS
    ("grpc.max_connection_idle_ms", 30_000),  # and a connection that completed TLS and then sends nothing
]


def pieces(frame: bytes | memoryview, attempt: int, message: type[M]) -> Iterator[M]:
    """Cut a frame into messages of one direction; an empty frame is one empty last piece.

    Each piece is written inside its message: protobuf would copy one that was made before.
    """
    view, end = memoryview(frame), max(len(frame), 1)
    for begin in range(0, end, PIECE_BYTES):
        last = begin + PIECE_BYTES >= end
        yield message(piece={"attempt": attempt, "data": bytes(view[begin : begin + PIECE_BYTES]), "last": last})


class Assembler:
    """Puts together the pieces of one direction of one stream; ``limit`` is the largest frame in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._attempt = 0
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, piece: Piece) -> bytes | None:
        """Add the next piece, and return the frame if it is complete.

        A frame that was cut off because a new attempt began is dropped.

        Raises:
            InputError: the frame grows beyond the limit, or a piece has a size that no honest sender cuts.
        """
        if piece.attempt != self._attempt:
            self._attempt, self._parts, self._size = piece.attempt, [], 0
        data = piece.data  # once: protobuf copies it at every look
        if not piece.last and len(data) != PIECE_BYTES:
            raise InputError(f"expected a piece of {PIECE_BYTES} bytes, got {len(data)}")
        self._size += len(data)
        if self._size > self._limit:
            raise InputError(f"expected a frame of at most {self._limit} bytes, got more")
        self._parts.append(data)
        if not piece.last:
            return None
        frame = b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._parts, self._size = [], 0
        return frame


def bind(identity: Ed25519PrivateKey, certificate: bytes) -> bytes:
    """Sign the TLS certificate (DER) of a connection with the site's identity.

    The authority alone could issue a second certificate for a site's name, and an old certificate remains after a key
    was replaced. Only the holder of the identity on the roster can bind a certificate to this identity.
    """
    return identity.sign(_statement(certificate))


def check_binding(identity: Ed25519PublicKey, certificate: bytes, signature: bytes) -> None:
    """Check that a site's identity has signed a certificate (DER).

    Raises:
        TrustError: the identity has not signed it.
    """
    try:
        identity.verify(signature, _statement(certificate))
    except InvalidSignature as error:
        raise TrustError("the identity on the roster has not signed this connection's certificate") from error


def _statement(certificate: bytes) -> bytes:
    return b"dura aggregation stream 1\0" + hashlib.sha256(certificate).digest()

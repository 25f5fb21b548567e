"""One site's stream: it reads frames within the study's limit, and one writer sends frames from a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from dura_common.errors import InputError
from dura_common.messages.proto.aggregation_pb2 import Begin, End, Reason, ToSite
from dura_common.sums.plane import Assembler
from dura_server.sums.identity import Peer

QUEUED_FRAMES = 8
"""Sessions run in lockstep. If more frames than this wait for a site, the site is not reading at all."""


class SiteStream:
    """The coordinator's end of one stream; ``context`` belongs to gRPC."""

    def __init__(self, peer: Peer, context: Any, *, limit: int) -> None:
        self.peer = peer
        self.name = peer.site.name
        self._context = context
        self._assembler = Assembler(limit)
        self._queue: asyncio.Queue[Iterable[ToSite]] = asyncio.Queue(QUEUED_FRAMES)
        self._last_word: Reason | None = None

    def begin(self, begin: Begin) -> None:
        """Tell the site that an attempt begins."""
        self._put([ToSite(begin=begin)])

    def send(self, messages: Iterable[ToSite]) -> None:
        """Send the pieces of one frame; never waits. Several streams may send the same messages."""
        self._put(messages)

    def end(self, reason: Reason) -> None:
        """Send the last message and close the stream. Waiting frames are sent first only if there was no fault."""
        if self._last_word is not None:
            return
        self._last_word = reason
        while self._queue.full() or (reason != Reason.FINISHED and not self._queue.empty()):
            self._queue.get_nowait()
        self._queue.put_nowait([ToSite(end=End(reason=reason))])

    async def serve(self, deliver: Callable[[int, bytes], Awaitable[None]]) -> Reason | None:
        """Carry frames both ways until the stream ends. Return the word that ended it; None if the stream was lost.

        Raises:
            InputError: the site sent something that cannot be a frame of this session.
        """
        reader, writer = asyncio.create_task(self._read(deliver)), asyncio.create_task(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            return reader.result() if reader.done() else self._last_word
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, deliver: Callable[[int, bytes], Awaitable[None]]) -> Reason | None:
        while (message := await self._context.read()) is not grpc.aio.EOF:
            kind = message.WhichOneof("kind")
            if kind == "leave":
                reason: Reason = message.leave.reason
                return reason
            if kind != "piece":
                raise InputError("expected a piece of a frame")
            frame = self._assembler.add(message.piece)
            if frame is not None:
                await deliver(message.piece.attempt, frame)
        return None

    async def _write(self) -> None:
        """Write everything from the queue, in order, up to the last message. Nothing else writes to this stream."""
        while True:
            for message in await self._queue.get():
                await self._context.write(message)
                if message.WhichOneof("kind") == "end":
                    return

    def _put(self, messages: Iterable[ToSite]) -> None:
        if self._last_word is not None:
            return
        try:
            self._queue.put_nowait(messages)
        except asyncio.QueueFull:
            self.end(Reason.TOO_LATE)

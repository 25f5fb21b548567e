"""What stands between a hospital and the coordinator: a TCP relay that counts and can be cut, and a CONNECT proxy."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

CHUNK = 65_536
END_OF_HEAD = b"\r\n\r\n"


class Relay:
    """Passes TCP connections on to one address, unread.

    ``cut`` closes every connection with a reset, ``stall`` stops passing bytes on (a black hole) until ``resume``.
    """

    def __init__(self, port: int, *, rate: float = float("inf")) -> None:
        self.rate = rate
        """Bytes a second, each way."""
        self.uploaded = 0
        """Bytes from clients to the server, over all connections."""
        self.connections = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs = []

    def stall(self) -> None:
        """Let nothing through any more, without closing anything."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def target_of(self, client: socket.socket) -> int | None:
        """Return the port to connect a client to; None refuses it."""
        del client
        return self._target

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        port = self.target_of(client)
        if port is None:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", port))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        self._pairs.append((client, server))
        threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()
        self._pass(client, server, True)

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while content := source.recv(CHUNK):
                self._flowing.wait()
                if up:
                    self.uploaded += len(content)
                time.sleep(len(content) / self.rate)
                sink.sendall(content)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class ConnectProxy(Relay):
    """An HTTP proxy that knows CONNECT only, as many hospitals have one; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(0)

    def target_of(self, client: socket.socket) -> int | None:
        """Read the CONNECT request and answer it."""
        head = b""
        while END_OF_HEAD not in head:
            content = client.recv(CHUNK)
            if not content:
                return None
            head += content
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        self.asked.append(f"{method} {target}")
        if method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return None
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return int(target.rsplit(":", 1)[1])

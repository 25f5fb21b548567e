"""Run the aggregation service of one coordinator until it is stopped: HOME."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from dura_common.errors import HostError
from dura_common.plane import SERVER_OPTIONS
from dura_common.proto.aggregation_pb2_grpc import add_AggregationServicer_to_server, add_SessionsServicer_to_server
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_server.aggregation.identity import RosterWatch
from dura_server.aggregation.service import Book, SessionDesk, Streams
from dura_server.home import CoordinatorHome
from dura_server.settings import load_settings

SERVICE = "dura.aggregation.v1.Aggregation"
SUM_BYTES = 512 << 20
"""Largest message between this service and the ServerApp, which are one user on one machine."""
GRACE_SECONDS = 2.0


def credentials(home: CoordinatorHome) -> grpc.ServerCredentials:
    """Return the service's TLS side: the server's certificate, and a client certificate of this authority demanded."""
    what = "the service's TLS files"
    key = read_limited(home.keys / "server.key", what=what)
    chain = read_limited(home.keys / "server.pem", what=what)
    authority = read_limited(home.keys / "authority.pem", what=what)
    return grpc.ssl_server_credentials([(key, chain)], root_certificates=authority, require_client_auth=True)


async def serve(home: CoordinatorHome) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        HostError: the port is taken.
    """
    settings = load_settings(home)
    book, watch = Book(), RosterWatch(home)
    public = grpc.aio.server(options=SERVER_OPTIONS)
    add_AggregationServicer_to_server(Streams(book, watch), public)  # type: ignore[no-untyped-call]  # generated
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, public)
    await health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    inner = grpc.aio.server(options=[("grpc.max_send_message_length", SUM_BYTES)])
    add_SessionsServicer_to_server(SessionDesk(book, watch), inner)  # type: ignore[no-untyped-call]  # generated
    # A socket's path must be short, and a home may lie deep; nobody else can enter a folder of mkdtemp.
    folder = Path(tempfile.mkdtemp(prefix="dura-"))
    address = f"unix:{folder / 'sums.sock'}"
    bind = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    try:
        public.add_secure_port(f"{bind}:{settings.aggregation_port}", credentials(home))
        inner.add_insecure_port(address)
        await inner.start()
        await public.start()
        write_atomic(private_folder(home.run) / "aggregation.address", address.encode())
        await _stopped()
    except RuntimeError as error:
        raise HostError(f"port {settings.aggregation_port} cannot be used by the aggregation service") from error
    finally:
        with suppress(FileNotFoundError):
            (home.run / "aggregation.address").unlink()
        await asyncio.gather(public.stop(GRACE_SECONDS), inner.stop(GRACE_SECONDS))
        shutil.rmtree(folder, ignore_errors=True)


async def _stopped() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(CoordinatorHome(Path(sys.argv[1]))))
    except HostError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(error.exit_code)

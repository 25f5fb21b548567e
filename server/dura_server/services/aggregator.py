"""``python -m dura_server.services.aggregator HOME``: the aggregation service, one child of `dura coordinator start`.

It listens on the public aggregation port (mutual TLS: sites bring sums, researchers ask at the desk) and on the socket
of the ServerApp, and answers the standard gRPC health protocol on both. Every opened sum is on disk before any site or
the ServerApp hears of the sum. A crash ends the running sessions; the study then continues from the sums on disk, with
new sessions.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dura_common.errors import HostError
from dura_common.messages.proto.aggregation_pb2_grpc import (
    add_AggregationServicer_to_server,
    add_SessionsServicer_to_server,
)
from dura_common.messages.proto.desk_pb2_grpc import add_DeskServicer_to_server
from dura_common.runtime.files import private_folder, read_limited
from dura_common.sums.plane import MESSAGE_BYTES, SERVER_OPTIONS
from dura_server.consortium.enrolment import load_settings
from dura_server.desk.service import DeskService
from dura_server.home import CoordinatorHome
from dura_server.sums.door import SessionsDoor
from dura_server.sums.identity import RosterWatch
from dura_server.sums.service import AggregationService, RunningSessions

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
CONCURRENT_STREAMS = 2_000
"""For all sites together: 500 sites with four streams each."""
HEALTH_SECONDS = 2.0


async def serve(home: CoordinatorHome) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        HostError: a port or the socket cannot be used.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    roster = RosterWatch(home)
    sessions = RunningSessions(home, roster)
    service = AggregationService(sessions)
    public, door = _public(home, service, DeskService(home, roster, sessions)), _door(home, sessions)
    watch = asyncio.create_task(service.watch_roster())
    await public.start()
    await door.start()
    log.info("serving secure sums")
    await stop.wait()
    watch.cancel()
    await asyncio.gather(public.stop(GRACE_SECONDS), door.stop(GRACE_SECONDS))
    home.sums_socket.unlink(missing_ok=True)


def healthy(home: CoordinatorHome) -> bool:
    """Tell whether the service of a home answers."""
    channel = grpc.insecure_channel(f"unix:{home.sums_socket}", options=[("grpc.use_local_subchannel_pool", 1)])
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False
    finally:
        channel.close()


def _public(home: CoordinatorHome, service: AggregationService, desk: DeskService) -> Any:
    settings = load_settings(home)
    key, certificate, clients = (
        read_limited(home.keys / name, what=f"the coordinator's {name}")
        for name in ("server.key", "server.pem", "clients.pem")
    )
    credentials = grpc.ssl_server_credentials([(key, certificate)], clients, require_client_auth=True)
    server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=CONCURRENT_STREAMS)
    add_AggregationServicer_to_server(service, server)
    add_DeskServicer_to_server(desk, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    _bind(lambda: server.add_secure_port(f"{host}:{settings.aggregation_port}", credentials), "the aggregation port")
    return server


def _door(home: CoordinatorHome, sessions: RunningSessions) -> Any:
    private_folder(home.run)
    path = home.sums_socket
    path.unlink(missing_ok=True)  # left by a service that was killed; the supervisor never runs two
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_BYTES)])
    add_SessionsServicer_to_server(SessionsDoor(sessions), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    _bind(lambda: server.add_insecure_port(f"unix:{path}"), "the ServerApp's socket")
    return server


def _bind(act: Any, what: str) -> None:
    try:
        act()
    except RuntimeError as error:
        raise HostError(f"{what} cannot be used", hint="Another process uses it; see the log above.") from error


def main(arguments: list[str]) -> None:
    """Serve until the process is stopped: HOME."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(CoordinatorHome(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])

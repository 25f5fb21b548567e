"""The coordinator's services, kept alive together: SuperLink, SuperExec for the ServerApp, gateway, aggregator.

The SuperLink, with its Control and Runtime APIs, listens on a Unix socket that only the coordinator's own account may
open. The gateway and the aggregator have the two public ports. Telemetry, update checks and the installation of
packages at run time are switched off.
"""

from __future__ import annotations

import logging
import socket
import ssl
from datetime import UTC, datetime

from dura_common.errors import DuraError
from dura_common.runtime.environment import flower_environment, module
from dura_common.runtime.files import closed_folder, private_folder
from dura_common.runtime.running import telling_why
from dura_common.runtime.sockets import ADDRESS, listens
from dura_common.runtime.supervisor import Child, Supervisor
from dura_server.consortium.enrolment import CoordinatorSettings, load_settings, read_roster
from dura_server.consortium.place import require_ports
from dura_server.home import CoordinatorHome
from dura_server.services.aggregator import healthy
from dura_server.services.diagnosis import check_certificate, diagnose
from dura_server.services.scheduler import Housekeeper, Scheduler

log = logging.getLogger(__name__)

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # names of "everywhere", not bound to here
"""A service that listens on all addresses is asked at this address whether it is ready."""


def run_services(home: CoordinatorHome) -> None:
    """Run the services of a home, an absolute path, until they are told to stop.

    Raises:
        StateError: there is no coordinator here, or it is already running.
        TrustError: the server's certificate has expired.
        HostError: a port is taken, or a service does not start.
    """
    settings = load_settings(home)
    with telling_why(closed_folder(home.run)):
        read_roster(home)
        check_certificate(home, datetime.now(UTC))
        Supervisor(
            _children(home, settings),
            home.run,
            tick=Housekeeper(home, (_Registrar(home), Scheduler(home, settings.studies_at_once).turn)),
            prepare=lambda: require_ports(settings),
            diagnose=lambda name: diagnose(home, settings, name),
        ).run()


class _Registrar:
    """Brings the SuperLink's nodes in line with the roster whenever the roster changes."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._done = self._said = ""

    def __call__(self) -> None:
        from dura_server.services.superlink import reconcile_nodes  # noqa: PLC0415  # Flower's import takes a second

        try:
            roster, envelope = read_roster(self._home)
            if envelope != self._done:
                reconcile_nodes(self._home, roster)
                self._done, self._said = envelope, ""
        except DuraError as error:
            if error.message != self._said:  # every second would fill the log
                log.warning("the roster could not be applied yet: %s", error.message)
            self._said = error.message


def _children(home: CoordinatorHome, settings: CoordinatorSettings) -> list[Child]:
    keys, link = home.keys, home.superlink_socket
    environment = flower_environment(
        private_folder(home.flower),
        DURA_COORDINATOR_HOME=str(home.path),
        PYTHONFAULTHANDLER="1",  # a process that crashes says where
    )
    authority = str(keys / "authority.pem")
    public = (LOOPBACK.get(settings.bind, settings.bind), settings.port)
    secret = ("--superexec-auth-secret-file", str(keys / "superexec.secret"))
    superlink = Child(
        name="superlink",
        argv=[
            *module("dura_server.services.flower", "superlink", str(home.path)),
            *("--ssl-certfile", str(keys / "server.pem"), "--ssl-keyfile", str(keys / "server.key")),
            *("--ssl-ca-certfile", authority),  # Flower authenticates nodes only with TLS files; the socket uses none
            *("--enable-supernode-auth", "--isolation", "process", *secret),
            *("--disable-runtime-dependency-installation", "--database", str(home.database)),
        ],
        env=environment,
        log=home.logs / "superlink.log",
        ready=lambda: listens(link) and _serves_tls(public, authority) and healthy(home),
    )
    superexec = Child(
        name="superexec",
        argv=[
            *module("dura_server.services.flower", "superexec", str(home.path)),
            *("--runtime-api-address", ADDRESS, "--insecure", *secret),
        ],
        env=environment,
        log=home.logs / "serverapp.log",
    )
    gateway = Child(
        name="gateway",
        argv=module("dura_server.services.gateway", str(home.path)),
        env=environment,
        log=home.logs / "gateway.log",
    )
    aggregator = Child(
        name="aggregator",
        argv=module("dura_server.services.aggregator", str(home.path)),
        env=environment,
        log=home.logs / "aggregator.log",
    )
    return [gateway, aggregator, superlink, superexec]  # the first three start together, ready when all serve


def _serves_tls(address: tuple[str, int], authority: str) -> bool:
    context = ssl.create_default_context(cafile=authority)
    try:
        with (
            socket.create_connection(address, timeout=1) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1"),
        ):
            return True
    except OSError:
        return False

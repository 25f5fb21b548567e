"""The site's node: Flower's SuperNode and dura's own runner, kept alive together.

The SuperNode only connects outwards, to the consortium's gateway. It hands tasks to the runner over a Unix socket that
only this account may open. A secret that is new at every start guards the socket.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from dura_client.consortium.enrolment import Membership, load_consortium
from dura_client.node.preflight import check_coordinator
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import load_policy
from dura_client.site.settings import load_settings
from dura_common.consortium.identity import check_issued, load_certificate
from dura_common.errors import TrustError
from dura_common.runtime.environment import flower_environment, module
from dura_common.runtime.files import closed_folder, private_folder, read_limited, write_atomic
from dura_common.runtime.sockets import listens, socket_path
from dura_common.runtime.supervisor import Child, Supervisor

SECRET_BYTES = 48
DEFAULT_APP = "dura_client.node.app:app"


def run_node(home: SiteHome, *, app: str = DEFAULT_APP) -> None:
    """Run the node of a home, an absolute path, until it is told to stop.

    Raises:
        StateError: the site has not joined, its node is already running, or its path is too long for a socket.
        PolicyError: the site has no policy.
        TrustError: the roster or a certificate has expired or was altered, or the server is not the coordinator.
        HostError: the clocks differ, or a process does not start.
    """
    settings, consortium = load_settings(home), load_consortium(home, datetime.now(UTC))
    load_policy(home)
    _check_certificates(home, consortium)
    check_coordinator(consortium.roster.fleet, consortium.authority_file, lambda: datetime.now(UTC))
    run = closed_folder(home.run)
    secret = run / "superexec.secret"
    write_atomic(secret, secrets.token_hex(SECRET_BYTES).encode())
    where = socket_path(run, "node.sock")
    ready = secret.with_suffix(".ready")
    ready.unlink(missing_ok=True)
    environment = flower_environment(
        private_folder(home.path / "flower"),
        proxies=True,
        DURA_SITE_HOME=str(home.path),
        **_threads(settings.threads),
    )
    with SiteKeys(home).node_file() as (key_path, descriptor):
        supernode = Child(
            name="supernode",
            argv=[
                *module("dura_client.node.supernode", str(where)),
                *("--superlink", consortium.roster.fleet),
                *("--root-certificates", str(consortium.authority_file)),
                *("--auth-supernode-private-key", key_path),
                *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
            ],
            env=environment,
            log=home.logs / "supernode.log",
            ready=lambda: listens(where) and ready.exists(),
            pass_fds=(descriptor,),
        )
        runner = Child(
            name="runner",
            argv=module("dura_client.node.runner", str(where), str(secret), app),
            env=environment,
            log=home.logs / "runner.log",
        )
        Supervisor([runner, supernode], run).run()  # both take seconds to import, so they start together


def _threads(count: int) -> dict[str, str]:
    """Return the settings of the runner's threads: their number, and that a waiting thread uses no processor.

    By default, OpenMP threads that wait for each other keep their processors busy. With two threads, on a machine that
    had other work, a step of training then took fourteen times as long.
    """
    return {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": "PASSIVE"}


def _check_certificates(home: SiteHome, consortium: Membership) -> None:
    certificate = load_certificate(read_limited(home.consortium / "certificate.pem", what="the site's certificate"))
    check_issued(certificate, load_certificate(consortium.roster.clients.encode()), datetime.now(UTC))
    if read_limited(consortium.authority_file, what="the service's authority") != consortium.roster.authority.encode():
        raise TrustError(
            "the file authority.pem is not the authority that the roster names",
            hint="It was changed on disk: join again with the admission, `dura site join`.",
        )

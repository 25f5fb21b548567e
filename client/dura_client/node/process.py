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
from dura_client.site.settings import SiteSettings, load_settings
from dura_common.consortium.identity import check_issued, load_certificate
from dura_common.errors import DuraError, TrustError
from dura_common.runtime.environment import flower_environment, module
from dura_common.runtime.files import closed_folder, private_folder, read_limited, require_space, write_atomic
from dura_common.runtime.running import telling_why
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
    settings = load_settings(home)
    with telling_why(closed_folder(home.run)):
        _run(home, settings, app)


def _run(home: SiteHome, settings: SiteSettings, app: str) -> None:
    consortium = load_consortium(home, datetime.now(UTC))
    load_policy(home)
    check_way(home, consortium)
    secret, where = home.run / "superexec.secret", socket_path(home.run, "node.sock")
    ready = secret.with_suffix(".ready")

    def prepare() -> None:
        write_atomic(secret, secrets.token_hex(SECRET_BYTES).encode())
        ready.unlink(missing_ok=True)
        home.refused.unlink(missing_ok=True)
        home.signed_on.unlink(missing_ok=True)

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
            ready=lambda: home.signed_on.exists() and listens(where) and ready.exists(),
            pass_fds=(descriptor,),
        )
        runner = Child(
            name="runner",
            argv=module("dura_client.node.runner", str(where), str(secret), app),
            env=environment,
            log=home.logs / "runner.log",
            bell=home.bell,
        )
        both = [runner, supernode]  # both take seconds to import, so they start together
        Supervisor(both, home.run, prepare=prepare, diagnose=lambda _: diagnose(home)).run()


def _threads(count: int) -> dict[str, str]:
    """Return the settings of the runner's threads: their number, and that a waiting thread uses no processor.

    By default, OpenMP threads that wait for each other keep their processors busy. With two threads, on a machine that
    had other work, a step of training then took fourteen times as long.
    """
    return {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": "PASSIVE"}


def diagnose(home: SiteHome) -> DuraError | None:
    """Look for the reason why a process of the node ends again and again: disk, membership, certificates, clocks."""
    try:
        require_space(home.run)
        check_way(home, load_consortium(home, datetime.now(UTC)))
    except DuraError as error:
        return error
    if home.refused.exists():
        return TrustError(
            "the coordinator does not know this node: the roster in force there does not list its key",
            hint="A new member, or one with new keys, counts when the others have countersigned the roster. Ask the "
            "operator for `dura coordinator roster`, and compare it with `dura site roster`.",
        )
    return None


def check_way(home: SiteHome, consortium: Membership) -> None:
    """Check what the way to the coordinator needs.

    Raises:
        TrustError: a certificate has expired or was altered, or the coordinator is a false one.
        HostError: the clocks differ.
    """
    certificate = load_certificate(read_limited(home.consortium / "certificate.pem", what="the site's certificate"))
    check_issued(certificate, load_certificate(consortium.roster.clients.encode()), datetime.now(UTC))
    if read_limited(consortium.authority_file, what="the service's authority") != consortium.roster.authority.encode():
        raise TrustError(
            "the file authority.pem is not the authority that the roster names",
            hint="It was changed on disk: join again with the admission, `dura site join`.",
        )
    check_coordinator(consortium.roster.fleet, consortium.authority_file, lambda: datetime.now(UTC))

"""Where a coordinator serves: its host name and ports are checked before anything is written, also when they change."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import datetime

import tomli_w
from pydantic import ValidationError

from dura_common.errors import InputError, StateError
from dura_common.runtime.files import write_atomic
from dura_common.runtime.running import holder, require_free_port
from dura_common.study import explain_validation
from dura_server.consortium.enrolment import Service, read_roster, renew
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings, load_settings

GATEWAY, SUMS = "the gateway", "the secure sums"


def require_ports(settings: CoordinatorSettings, *, but: CoordinatorSettings | None = None) -> None:
    """Check that nobody else has the two public ports.

    Args:
        settings: with the ports.
        but: settings of the running services, whose own ports are not checked.

    Raises:
        HostError: somebody has one of them, or this machine does not have the address.
    """
    own = set() if but is None else {but.port, but.aggregation_port}
    for port, what in ((settings.port, GATEWAY), (settings.aggregation_port, SUMS)):
        if port not in own:
            require_free_port(settings.bind, port, what=what)


def require_known_host(settings: CoordinatorSettings) -> None:
    """Check that the name under which sites reach this machine can be resolved.

    Raises:
        InputError: nobody knows the name.
    """
    try:
        socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"the host name {settings.host} cannot be resolved on this machine",
            hint="Check its spelling. If only the hospitals' networks know the name, give --unchecked.",
        ) from error


def change(
    home: CoordinatorHome, changes: Mapping[str, object], now: datetime, *, unchecked: bool = False
) -> tuple[Service, bool]:
    """Change where a coordinator serves, and issue the server a certificate for the new names.

    Returns the new description of the service, and whether the authority must issue a roster with it. Running services
    use the new ports after a restart.

    Raises:
        InputError: a value is not valid, or nobody knows the host name; nothing is changed.
        HostError: a port is taken; nothing is changed.
    """
    before = load_settings(home)
    try:
        after = CoordinatorSettings.model_validate({**before.model_dump(), **changes})
    except ValidationError as error:
        raise explain_validation(error, what="the arguments") from error
    if not unchecked:
        require_known_host(after)
        require_ports(after, but=before if holder(home.run) is not None else None)
    write_atomic(home.settings, tomli_w.dumps(after.model_dump()).encode())
    service = renew(home, now)
    return service, roster_needed(home, service)


def roster_needed(home: CoordinatorHome, service: Service) -> bool:
    """Tell whether the roster in force names another address or authority than the service has."""
    try:
        roster, _ = read_roster(home)
    except StateError:  # the consortium is not founded yet: the first roster will have the present addresses
        return False
    return (service.fleet, service.aggregation, service.authority) != (
        roster.fleet,
        roster.aggregation,
        roster.authority,
    )

"""What a site asks the coordinator's public port before its node starts: who are you, and what time is it?

Flower would notice too, but only writes to a log: a wrong certificate ends the SuperNode, and the SuperLink refuses the
signatures of a clock that is seconds ahead. A coordinator that cannot be reached is not an error here: the node keeps
trying until the coordinator answers.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from dura_common.errors import HostError, TrustError

PATIENCE_SECONDS = 5.0
MOST_AHEAD = timedelta(seconds=6)
"""Flower 1.41 refuses signatures that are more than 5 s from the future; the Date header counts whole seconds."""
MOST_BEHIND = timedelta(seconds=300)
"""Flower 1.41 refuses signatures that are older."""


def check_coordinator(address: str, authority_file: Path, clock: Callable[[], datetime]) -> bool:
    """Compare the coordinator's certificate with the pinned authority, and its clock with that of this machine.

    Returns whether the coordinator answered.

    Args:
        address: host:port of the gateway, from the roster.
        authority_file: the pinned authority (PEM).
        clock: returns the present time (UTC).

    Raises:
        TrustError: the server that answers has no valid certificate of the consortium's authority.
        HostError: the clocks are too far apart.
    """
    told = _ask(address, authority_file)
    if told is None:
        return False
    ahead = clock() - told
    if not -MOST_BEHIND <= ahead <= MOST_AHEAD:
        seconds = abs(ahead.total_seconds())
        raise HostError(
            f"this machine's clock is {seconds:.0f} s {'ahead of' if ahead > timedelta(0) else 'behind'} the "
            f"coordinator's; at most {MOST_AHEAD.seconds} s ahead or {MOST_BEHIND.seconds} s behind are allowed",
            hint="Set the clocks of both machines by a time server (NTP).",
        )
    return True


def _ask(address: str, authority_file: Path) -> datetime | None:
    """Return the coordinator's time, or None if nobody answers or the answer has no time."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority_file))
    connection = HTTPSConnection(host.strip("[]"), int(port), timeout=PATIENCE_SECONDS, context=context)
    try:
        connection.request("HEAD", "/")
        return parsedate_to_datetime(connection.getresponse().headers["Date"])
    except ssl.SSLCertVerificationError as error:
        raise TrustError(
            f"the server at {address} has no valid certificate of this consortium's authority: {error.verify_message}",
            hint="The coordinator must renew its certificate (`dura coordinator renew`), a clock is wrong, or "
            "an attacker is in between: compare `dura site roster` and `dura coordinator fingerprint` by telephone.",
        ) from error
    except (OSError, HTTPException, TypeError, ValueError):
        return None
    finally:
        connection.close()

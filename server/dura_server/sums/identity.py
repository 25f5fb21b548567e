"""Finds out which site opened a connection: from the certificate's one URI, the current roster, and a signature.

The signature binds certificate and roster. The check runs when a stream is opened, and again during its whole life,
because a site may be removed from the roster while its stream is open. The TLS library has verified the chain, the
dates and the purpose of the certificate before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dura_common.consortium.identity import alternative_names, load_certificate, site_uri, tls_public_text
from dura_common.consortium.roster import Roster, RosterSite
from dura_common.errors import DuraError, TrustError
from dura_common.sums.plane import check_binding
from dura_server.consortium.enrolment import read_roster
from dura_server.home import CoordinatorHome

log = logging.getLogger(__name__)

Member = TypeVar("Member")
AuthContext = Mapping[str, Sequence[bytes]]

RELOAD_SECONDS = 1.0
"""If a site is removed from the roster, its streams end within this time."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One authenticated site at the other end of a connection."""

    site: RosterSite
    certificate: bytes
    """DER."""

    def check_hello(self, binding: bytes) -> None:
        """Check that the site's identity has signed this connection's certificate.

        Raises:
            TrustError: the signature is not valid.
        """
        check_binding(self.site.identity_key(), self.certificate, binding)


class RosterWatch:
    """The coordinator's current roster, which is read again when the file may have changed."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._read = -RELOAD_SECONDS
        self._roster: Roster | None = None

    def now(self) -> Roster:
        """Return the roster, at most a second old.

        Raises:
            TrustError: the roster was altered. An expired roster is still valid for studies approved under it.
            DuraError: the roster cannot be read.
        """
        if self._roster is None or time.monotonic() - self._read > RELOAD_SECONDS:
            self._roster, _ = read_roster(self._home)
            self._read = time.monotonic()
        return self._roster

    def still(self, peer: Peer) -> bool:
        """Tell whether a site is on the roster with the keys that it presented; False in doubt."""
        try:
            return self.now().site(peer.site.name) == peer.site
        except DuraError:
            return False


async def admitted(context: Any, identify_as: Callable[[AuthContext, Roster], Member], roster: RosterWatch) -> Member:
    """Return the member at the other end of a connection, or end the call; the coordinator's log has the reason."""
    try:
        return identify_as(context.auth_context(), roster.now())
    except TrustError as error:
        log.warning("refused %s: %s", context.peer(), error.message)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not admitted")
    except DuraError as error:
        log.warning("refused %s: %s", context.peer(), error.message)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no roster")
    raise AssertionError  # abort never returns


def identify(auth_context: AuthContext, roster: Roster) -> Peer:
    """Return the site that a connection's certificate names.

    Raises:
        TrustError: there is no certificate, it has not exactly one name of a site, or the site is not on the roster.
    """
    certificate = certificate_of(auth_context)
    name = named(certificate, site_uri(""))
    site = roster.site(name)
    if site is None:
        raise TrustError(f"{name[:40]!r} is not on the roster")
    if tls_public_text(certificate.public_key()) != site.tls_key:
        raise TrustError("the client certificate is not for the TLS key on the roster")
    return Peer(site, certificate.public_bytes(Encoding.DER))


def certificate_of(auth_context: AuthContext) -> x509.Certificate:
    """Return the client certificate of a connection.

    Raises:
        TrustError: the connection is not TLS 1.3 with exactly one certificate.
    """
    versions = list(auth_context.get("ssl_tls_version", ()))
    if versions != [b"TLSv1.3"]:
        raise TrustError("expected TLS 1.3")
    certificates = list(auth_context.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise TrustError("expected one client certificate")
    return load_certificate(certificates[0])


def named(certificate: x509.Certificate, prefix: str) -> str:
    """Return the member of a certificate whose only alternative name is one URI that begins with ``prefix``.

    Raises:
        TrustError: the certificate has other names.
    """
    names = alternative_names(certificate)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise TrustError(f"expected one URI in the client certificate, got {len(names)} names")
    if not names[0].value.startswith(prefix):
        raise TrustError("the client certificate names another kind of member")
    return names[0].value.removeprefix(prefix)

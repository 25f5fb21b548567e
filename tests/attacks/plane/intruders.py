"""What attackers of the aggregation plane bring along: forged certificates, raw streams, honest sites beside them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.plane.service import SITES, Plane, expected, vector_of
from tests.support.plane.stream import Stream, identity_of, own

from dura_client.sums.session import SumSession
from dura_common.consortium.identity import load_certificate, site_uri
from dura_common.consortium.keyfile import load_private, private_pem
from dura_common.errors import DuraError
from dura_common.messages.proto.aggregation_pb2 import Begin
from dura_common.secagg import SessionParameters

NOW = datetime.now(UTC)


def serves(plane: Plane, number: int) -> None:
    """Check that an honest session works."""
    params = plane.params(number=number)
    with honest(plane, params):
        (opened,) = plane.run(params)
    assert np.array_equal(opened.values, expected(SITES, 1, params.length))


@contextlib.contextmanager
def honest(plane: Plane, params: SessionParameters, names: Iterable[str] = SITES) -> Iterator[None]:
    """Let honest sites take part in a session, each in a thread; an error in one of them is an error."""
    errors: list[BaseException] = []

    def take_part(name: str) -> None:
        try:
            with SumSession(plane.site(name), params) as sums:
                for step in range(1, params.steps + 1):
                    sums.step(vector_of(name, step, params.length))
        except DuraError as error:
            errors.append(error)

    threads = [threading.Thread(target=take_part, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(60)
    assert errors == []


class Forger:
    """Makes certificates with the authority's own key: what a careless or hostile authority could issue."""

    def __init__(self, plane: Plane) -> None:
        keys = plane.authority
        self.authority = load_certificate(keys.clients.read_bytes())
        key = load_private(keys.clients_key.read_bytes())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.authority_key = key

    def issue(
        self,
        names: Iterable[x509.GeneralName],
        *,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        ends: datetime = NOW + timedelta(days=9),
        common_name: str = "somebody",
    ) -> tuple[bytes, bytes]:
        """Return (key, certificate) as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = list(names)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=30))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.authority_key, hashes.SHA256())
        return private_pem(key), certificate.public_bytes(Encoding.PEM)


def uri(name: str) -> x509.UniformResourceIdentifier:
    """Return the name of a site in a certificate."""
    return x509.UniformResourceIdentifier(site_uri(name))


@contextlib.contextmanager
def stream(plane: Plane, pair: tuple[bytes, bytes] | None, **options: Any) -> Iterator[Stream]:
    """Open a stream and close it again."""
    made = Stream(plane, pair, **options)
    try:
        yield made
    finally:
        made.close()


def begun(plane: Plane, name: str, params: SessionParameters) -> tuple[Stream, Begin]:
    """Return a stream of a real site, attending a session whose attempt has begun."""
    made = Stream(plane, own(plane, name))
    made.hello(params, identity_of(plane, name))
    message = made.answer()
    assert message.WhichOneof("kind") == "begin"
    return made, message.begin

"""Keys and certificates as values: this module makes, writes and reads them, and other modules store them.

Ed25519 identifies a site, a researcher and the consortium. TLS uses ECDSA P-256, because gRPC's TLS accepts no
Ed25519 certificates. Flower's node authentication needs an EC P-384 key in OpenSSH form. A client certificate carries
exactly one URI SAN, ``urn:dura:site:NAME`` or ``urn:dura:researcher:NAME``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dura_common.errors import InputError, TrustError

CA_DAYS = 3650
LEAF_DAYS = 825
"""Longest life of a leaf certificate that TLS stacks accept without complaint."""
CLOCK_SKEW = timedelta(minutes=10)
"""The largest difference between two honest clocks."""
FINGERPRINT_GROUPS = 10
"""Groups of four hex digits that people compare by telephone: 160 bits."""

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""The errors that ``cryptography`` raises for malformed requests and certificates; half of them are no ValueError."""

PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def fingerprint(*parts: bytes) -> str:
    """Return a fingerprint of the parts, in groups of four hex digits that people can read aloud."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big") + part)
    text = hasher.hexdigest()
    return " ".join(text[4 * group : 4 * group + 4] for group in range(FINGERPRINT_GROUPS))


def node_public_text(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the public half of a node key in OpenSSH form, without a comment."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def node_private_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a node key in the OpenSSH form that Flower reads (not encrypted: Flower supports no passphrase)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def check_node_public(text: str) -> None:
    """Refuse everything except an EC P-384 public key in OpenSSH form.

    Raises:
        InputError: the text is another kind of key, or no key.
    """
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("the node key is not an OpenSSH public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise InputError("the node key must be on the curve P-384")


def tls_public_text(key: object) -> str:
    """Return a TLS key in the form for rosters: SubjectPublicKeyInfo (DER), base64.

    Raises:
        InputError: the key is not on the curve P-256.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise InputError("the TLS key must be on the curve P-256")
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def check_tls_public(text: str) -> None:
    """Refuse everything except a P-256 public key in the form for rosters.

    Raises:
        InputError: the text is another kind of key, has another form, or is no key.
    """
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise InputError("the TLS key is not a public key") from error
    if tls_public_text(key) != text:
        raise InputError("the TLS key does not have the form for rosters")


def identity_from_raw(raw: bytes) -> Ed25519PublicKey:
    """Return an Ed25519 public key from its 32 raw bytes.

    Raises:
        InputError: the content is not a key of 32 bytes.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise InputError("an identity key must be 32 bytes of an Ed25519 public key") from error


def site_uri(name: str) -> str:
    """Return the URI that names a site in its certificate."""
    return f"urn:dura:site:{name}"


def researcher_uri(name: str) -> str:
    """Return the URI that names a researcher in the certificate of the researcher's desk."""
    return f"urn:dura:researcher:{name}"


def make_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Return a certificate signing request (PEM) of a member."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """Read a signing request and check that its sender holds the key.

    Raises:
        InputError: the content is not a request, or its key is not a P-256 key.
        TrustError: its signature is not valid.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
    except UNREADABLE as error:
        raise InputError("the card holds no certificate signing request") from error
    try:
        signed, key = request.is_signature_valid, request.public_key()
    except UNREADABLE as error:  # a point that is on no curve, or an unknown algorithm
        raise InputError("the card's certificate signing request holds no usable key") from error
    if not signed:
        raise TrustError("the certificate signing request was not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise InputError("the TLS key must be on the curve P-256")
    return request


def make_authority(
    key: ec.EllipticCurvePrivateKey, consortium: str, now: datetime, *, hosts: tuple[str, ...] = ()
) -> x509.Certificate:
    """Return a self-signed certificate authority. With ``hosts``, it can only certify these DNS names.

    Addresses cannot be limited in this way: gRPC's TLS refuses a chain with such a limit.
    """
    name = _subject(f"dura consortium {consortium}"[:64])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key.public_key(), now, days=CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    named = [item for item in map(_general_name, dict.fromkeys(hosts)) if isinstance(item, x509.DNSName)]
    if named:
        limits = x509.NameConstraints(permitted_subtrees=named, excluded_subtrees=None)
        builder = builder.add_extension(limits, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def make_server_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    hosts: tuple[str, ...],
    now: datetime,
) -> x509.Certificate:
    """Return the coordinator's TLS certificate for all names and addresses that sites use for it."""
    names = [_general_name(host) for host in dict.fromkeys(hosts)]
    builder = _builder(_subject(hosts[0][:64]), authority.subject, key, now, days=LEAF_DAYS)
    builder = _leaf(builder, authority, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def make_site_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    request: x509.CertificateSigningRequest,
    name: str,
    now: datetime,
) -> x509.Certificate:
    """Return a site's TLS client certificate; the name comes from the roster, never from the request."""
    return _client_certificate(authority, authority_key, request, name, site_uri(name), now)


def make_researcher_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    request: x509.CertificateSigningRequest,
    name: str,
    now: datetime,
) -> x509.Certificate:
    """Return the TLS client certificate of a researcher's desk; no service of the sites accepts it."""
    return _client_certificate(authority, authority_key, request, name, researcher_uri(name), now)


def _client_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    request: x509.CertificateSigningRequest,
    name: str,
    uri: str,
    now: datetime,
) -> x509.Certificate:
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("load_request admits P-256 keys only")
    builder = _builder(_subject(name), authority.subject, key, now, days=LEAF_DAYS)
    builder = _leaf(builder, authority, ExtendedKeyUsageOID.CLIENT_AUTH)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return builder.add_extension(names, critical=True).sign(authority_key, hashes.SHA256())


def check_issued(
    certificate: x509.Certificate,
    authority: x509.Certificate,
    now: datetime,
    *,
    renewal: str = "Ask the coordinator to admit the site again, then `dura site join`.",
) -> None:
    """Check that the authority issued a certificate and that both are valid now.

    ``renewal`` tells the operator how to get a new certificate.

    Raises:
        TrustError: the issuer is another one, or the certificate has expired or is not valid yet (a wrong clock,
        perhaps).
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, *UNREADABLE) as error:
        raise TrustError("the certificate was not issued by this consortium's authority", hint=renewal) from error
    for what, item in (("certificate", certificate), ("consortium's authority", authority)):
        if now > item.not_valid_after_utc:
            raise TrustError(f"the {what} has expired: {_dates(item.not_valid_after_utc, now)}", hint=renewal)
        if now + CLOCK_SKEW < item.not_valid_before_utc:
            raise TrustError(
                f"the {what} is not valid yet: {_dates(item.not_valid_before_utc, now)}",
                hint="Check this machine's clock.",
            )


def _dates(limit: datetime, now: datetime) -> str:
    return f"its limit is {limit:%Y-%m-%d %H:%M} UTC, and this machine's clock says {now:%Y-%m-%d %H:%M} UTC"


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate from PEM with all of its parts, so that no later use of it can fail.

    Raises:
        InputError: the content is not a certificate, or a part of it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # cryptography reads these parts on first use; a malformed certificate must fail here.
        _ = certificate.public_key(), certificate.extensions, certificate.subject, certificate.issuer
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_hash_algorithm
    except UNREADABLE as error:
        raise InputError("a file does not hold a certificate that can be read") from error
    return certificate


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return the alternative names of a certificate that :func:`load_certificate` read; empty if it has none."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, *, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _leaf(
    builder: x509.CertificateBuilder, authority: x509.Certificate, usage: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )

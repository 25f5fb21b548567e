"""Every parser that takes bytes from outside, each with honest bytes to begin from.

A target may refuse by an error of dura's own or take the bytes; any other exception is a fault.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_client.data.recordings.brainvision import check_brainvision
from dura_client.data.recordings.edf_header import read_header
from dura_client.data.recordings.source import Unreadable
from dura_common.consortium import identity
from dura_common.consortium.cards import read_card
from dura_common.consortium.chain import parse_links
from dura_common.consortium.envelope import payload_of, sign, verify
from dura_common.consortium.roster import read_admission, read_claimed_roster
from dura_common.errors import DuraError
from dura_common.messages import decode_reply, decode_request
from dura_common.messages.proto.aggregation_pb2 import Piece
from dura_common.messages.rehearsal import decode_job
from dura_common.policy import parse_policy
from dura_common.secagg import Kind, Member, SessionParameters, max_frame, open_coordinator, open_site
from dura_common.study import STUDY_TYPE, parse_study
from dura_common.study.approval import parse_approval
from dura_common.sums.attempts import decode_values, encode_values
from dura_common.sums.heads import Head, Mark, Shown
from dura_common.sums.plane import Assembler

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
IDENTITIES = tuple(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 4))
NAMES = ("east", "north", "south")


_EDF_FIXED = [(b"0", 8), (b"X X X X", 80), (b"Startdate X X X X", 80), (b"01.01.30", 8), (b"00.00.00", 8), (b"512", 8)]
_EDF_FIXED += [(b"EDF+C", 44), (b"1", 8), (b"1", 8), (b"1", 4)]
_EDF_SIGNAL = [(b"EEG C3", 16), (b"", 80), (b"uV", 8), (b"-100", 8), (b"100", 8), (b"-32768", 8), (b"32767", 8)]
_EDF_SIGNAL += [(b"", 80), (b"4", 8), (b"", 32)]
EDF = b"".join(field.ljust(size) for field, size in _EDF_FIXED + _EDF_SIGNAL) + bytes(8)
"""A recording of one channel with four samples."""
VHDR = (
    b"Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=x.eeg\nMarkerFile=x.vmrk\n"
    b"DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=1\nSamplingInterval=4000\n"
    b"[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=C3,,0.1,uV\n"
)


@dataclass(frozen=True)
class Target:
    """One parser."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...] = (DuraError,)


def _json(**values: object) -> bytes:
    return json.dumps(values).encode()


STUDY = b"""name = "s"
question = "?"
expires = 2030-06-01
[sites]
north = 40
east = 40
[data]
task = "t"
channels = ["C3", "Cz"]
sampling_rate = 128
band = [4, 38]
window_start = 0
window_length = 2
classes = ["a", "b"]
[privacy]
noise = "local"
epsilon = 8.0
delta = 1e-3
participation = 0.5
windows_per_patient = 8
[training]
rounds = 2
steps_per_round = 2
learning_rate = 0.01
[evaluation]
epsilon = 8.0
[aggregation]
minimum_sites = 2
"""
POLICY = b"""epsilon_per_study = 1.0
epsilon_total = 2.0
delta = 1e-4
minimum_patients = 10
minimum_sites = 2
public_data_without_noise = false
"""


def parameters(kind: Kind) -> SessionParameters:
    """Return one session of three sites."""
    members = tuple(
        Member(name, key.public_key().public_bytes_raw()) for name, key in zip(NAMES, IDENTITIES, strict=True)
    )
    return SessionParameters(
        study="11" * 32,
        roster="22" * 32,
        purpose="train",
        round=1,
        attempt=1,
        first_step=1,
        steps=2 if kind is Kind.STEP else 1,
        state="33" * 32,
        length=5,
        ring_bits=32,
        kind=kind,
        members=members,
        threshold=3,
        minimum=2,
        colluders=0,
    )


def play(kind: Kind, moment: int, content: bytes | None) -> bytes | None:
    """Run an honest session and replace the frame number ``moment`` by ``content``; None returns that frame."""
    params = parameters(kind)
    sites = {name: open_site(params, name, key) for name, key in zip(NAMES, IDENTITIES, strict=True)}
    coordinator = open_coordinator(params)
    pending = [(name, bytes(site.advertise())) for name, site in sites.items()]
    seen = 0
    while pending:
        name, frame = pending.pop(0)
        if seen == moment:
            if content is None:
                return frame
            frame = content
        seen += 1
        for receiver, out in coordinator.receive(name, frame).outgoing.items():
            sent = bytes(out)
            if seen == moment:
                if content is None:
                    return sent
                sent = content
            seen += 1
            reaction = sites[receiver].receive(sent)
            if reaction.reply:
                pending.append((receiver, bytes(reaction.reply)))
            if reaction.ready:
                pending.append((receiver, bytes(sites[receiver].mask(np.arange(5)))))
    return None


MOMENTS = 24
"""Frames of a session, either way; later numbers change nothing."""


def frames(kind: Kind) -> Target:
    """A frame anywhere in a session: its first byte says where it takes the place of the honest one."""

    def parse(content: bytes) -> object:
        return play(kind, content[0] % MOMENTS, content[1:]) if content else None

    seeds = tuple(bytes([moment]) + frame for moment in range(MOMENTS) if (frame := play(kind, moment, None)))
    return Target(parse, seeds)


def assembled(content: bytes) -> object:
    """Pieces of one to sixteen bytes, the last of them marked."""
    assembler = Assembler(max_frame(parameters(Kind.STEP)))
    size = 1 + (content[0] % 16 if content else 0)
    done = None
    for begin in range(1, len(content), size):
        last = begin + size >= len(content)
        done = assembler.add(Piece(attempt=content[0] % 3, data=content[begin : begin + size], last=last))
    return done


def in_a_file(name: str, parse: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a parser of bytes that puts them into a file of this name for a parser of files."""

    def parsed(content: bytes) -> object:
        with tempfile.TemporaryDirectory(prefix="dura-fuzz-") as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            return parse(path)

    return parsed


@cache
def targets() -> dict[str, Target]:
    """Return all targets by name."""
    envelope = sign(STUDY, STUDY_TYPE, KEY).encode()
    digest = "11" * 32
    certificate_key = ec.derive_private_key(7, ec.SECP256R1())
    authority = identity.make_authority(certificate_key, "brains", NOW)
    request = identity.make_request(certificate_key, "north")
    leaf = identity.make_site_certificate(authority, certificate_key, identity.load_request(request), "north", NOW)
    card = sign(_json(name="north"), "application/vnd.dura.card+json", KEY).encode()
    training = _json(kind="train-round", study=digest, round=1, attempt=1, members=["east", "north"], first_step=1)
    return {
        "study-file": Target(parse_study, (STUDY,)),
        "policy-file": Target(parse_policy, (POLICY,)),
        "envelope": Target(lambda content: verify(content, STUDY_TYPE, [KEY.public_key()]), (envelope,)),
        "payload": Target(payload_of, (envelope,)),
        "card": Target(read_card, (card,)),
        "admission": Target(read_admission, (card, _json(name="north", roster="x"))),
        "roster": Target(read_claimed_roster, (envelope,)),
        "rosters": Target(parse_links, (_json(format=1, links=[{"roster": "x", "countersignatures": []}]),)),
        "approval": Target(parse_approval, (_json(format=1, study=digest, roster=digest, site="north"),)),
        "request": Target(decode_request, (training, b"[" * 2000, b'{"kind":' * 500)),
        "reply": Target(decode_reply, (_json(kind="refusal", reason="policy"), b"[" * 2000)),
        "rehearsal-job": Target(decode_job, (_json(kind="simulate"), b"{}")),
        "certificate": Target(
            lambda content: identity.alternative_names(identity.load_certificate(content)),
            tuple(identity.certificate_pem(item) for item in (authority, leaf)),
        ),
        "certificate-request": Target(identity.load_request, (request,)),
        "session-parameters": Target(
            SessionParameters.decode,
            tuple(parameters(kind).encode() for kind in Kind),
            (ValueError, DuraError),
        ),
        "opened-values": Target(
            lambda content: decode_values(content, 5), (encode_values(np.arange(5)),), (ValueError, DuraError)
        ),
        "pieces": Target(assembled, (b"\0abc", b"\1" + bytes(64)), (ValueError, DuraError)),
        "note": Target(
            lambda content: Head.decode(content, "north", NAMES),
            (Head(1, digest, Mark(3, digest), {"east": Shown.of([Mark(2, digest)], 1)}).encode("north", NAMES),),
        ),
        "edf-header": Target(in_a_file("x.edf", read_header), (EDF, EDF[:256]), (Unreadable,)),
        "brainvision-header": Target(in_a_file("x.vhdr", check_brainvision), (VHDR,), (Unreadable,)),
        "step-frames": frames(Kind.STEP),
        "round-frames": frames(Kind.ROUND),
    }

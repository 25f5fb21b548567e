"""The parameters on which both sides must agree. Every value comes from the approved study or is checked against it.

The session id is the SHA-256 of all parameters. It enters every signature, key derivation and associated data. A
session of another study, round, attempt, model or list of sites therefore shares nothing with this session. (Bonawitz
et al. 2017, with bindings against the attack of Pasquini et al., CCS 2022: different models for different sites.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

from dura_common.secagg import wire

MIN_MEMBERS = 2
MAX_MEMBERS = 500
MAX_LENGTH = 50_000_000
"""Most parameters of one vector: 200 MB in a ring of 32 bits."""
MAX_STEPS = 100_000
IDENTITY_BYTES = 32
HEADING = b"dura secure sum 4"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9-]{1,30}")


class Kind(StrEnum):
    """The two kinds of sum."""

    STEP = "step"
    """Each site sends one message for a step. If a site drops out, the session ends."""
    ROUND = "round"
    """Tolerates dropouts at every stage, with self-masks and a confirmed survivor set."""


@dataclass(frozen=True, slots=True)
class Member:
    """One site of a session."""

    name: str
    identity: bytes
    """Raw Ed25519 public key from the roster, 32 bytes."""


@dataclass(frozen=True, kw_only=True)
class SessionParameters:
    """One session: one sum or, with kind ``step``, several sums one after another.

    Raises:
        ValueError: the values contradict each other; callers build them from a validated study.
    """

    study: str
    """Digest of the approved study, 64 hex digits."""
    roster: str
    """Digest of the roster that the study names."""
    purpose: str
    """The purpose of the vector: ``train``, ``evaluate``, ..."""
    round: int
    attempt: int
    first_step: int
    """Number of the first step within the round; 1 for a sum that is not a step."""
    steps: int
    """Sums that this session opens; 1 with kind ``round``."""
    state: str
    """Digest of the public state that the first vectors were computed from (model, optimiser)."""
    context: str = "0" * 64
    """Digest of everything else on which the sites of an attempt must agree, such as earlier opened sums."""
    length: int
    """Words of a vector."""
    ring_bits: int
    """32 or 64."""
    kind: Kind
    members: tuple[Member, ...]
    """Sorted by name; a site's index is its place here."""
    threshold: int
    """t: number of sites that must stay to the end; all sites with kind ``step``."""
    minimum: int
    """Smallest number of sites in an opened sum, from the study and the policy."""
    colluders: int
    """c: number of sites that may work together with the coordinator."""

    def __post_init__(self) -> None:
        self._check_names()
        self._check_sizes()
        self._check_threshold()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the order of their indices."""
        return tuple(member.name for member in self.members)

    @property
    def note_size(self) -> int:
        """Size of what each member says to the others together with its keys, in bytes."""
        return wire.note_size(len(self.members))

    @cached_property
    def session_id(self) -> bytes:
        """SHA-256 of the canonical encoding, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    @property
    def needed(self) -> int:
        """Number of sites that a sum needs: the threshold, the study's minimum, and two sites that do not collude."""
        return max(self.threshold, self.minimum, self.colluders + MIN_MEMBERS)

    def index(self, name: str) -> int:
        """Return the index of a member.

        Raises:
            ValueError: not a member.
        """
        return self.names.index(name)

    def encode(self) -> bytes:
        """Return the canonical encoding: every field in order, each as its length (4 bytes) and its bytes."""
        parts = [HEADING]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "members":
                parts.append(len(self.members).to_bytes(4, "big"))
                parts += [part for member in self.members for part in (member.name.encode(), member.identity)]
            else:
                parts.append(value.to_bytes(8, "big") if isinstance(value, int) else str(value).encode())
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    @classmethod
    def decode(cls, content: bytes) -> SessionParameters:
        """Read the canonical encoding, with all checks of the constructor.

        Raises:
            ValueError: the encoding differs from that of :meth:`encode`.
        """
        parts = _parts(content)
        try:
            if next(parts) != HEADING:
                raise ValueError("not the parameters of a session")
            values = {field.name: _value(field.name, parts) for field in fields(cls)}
        except (StopIteration, UnicodeDecodeError) as error:
            raise ValueError("the parameters of a session are cut short") from error
        params = cls(**values)
        if params.encode() != content:
            raise ValueError("the parameters of a session are not in canonical form")
        return params

    def _check_names(self) -> None:
        for digest in (self.study, self.roster, self.state, self.context):
            if _DIGEST.fullmatch(digest) is None:
                raise ValueError("study, roster, state and context are named by 64 hex digits")
        if _WORD.fullmatch(self.purpose) is None:
            raise ValueError("the purpose is one lower-case word")
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("members must be distinct and sorted by name")
        identities = [member.identity for member in self.members]
        if len(set(identities)) != len(identities) or any(len(key) != IDENTITY_BYTES for key in identities):
            raise ValueError("members must have distinct identities of 32 bytes: one site must not count twice")

    def _check_sizes(self) -> None:
        for name, low, high in (
            ("round", 1, 10_000_000),
            ("attempt", 1, 1_000_000),
            ("first_step", 1, MAX_STEPS),
            ("steps", 1, MAX_STEPS),
            ("length", 1, MAX_LENGTH),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}")
        if self.ring_bits not in {32, 64}:
            raise ValueError("ring_bits must be 32 or 64")

    def _check_threshold(self) -> None:
        count = len(self.members)
        if not MIN_MEMBERS <= count <= MAX_MEMBERS:  # a sum of one is no sum
            raise ValueError(f"a session has {MIN_MEMBERS} to {MAX_MEMBERS} members")
        if not 0 <= self.colluders <= count - MIN_MEMBERS or not MIN_MEMBERS <= self.minimum <= count:
            raise ValueError("colluders and minimum must fit the number of members, and leave two that do not collude")
        if self.kind is Kind.STEP:
            if self.threshold != count:
                raise ValueError("a step sum is all or nothing: its threshold is the number of members")
        elif not (2 * self.threshold > count + self.colluders and self.threshold <= count):
            # Bonawitz et al. 2017, section 6: otherwise a lying coordinator gathers both secrets of a site.
            raise ValueError("a round sum needs members >= threshold > (members + colluders) / 2")
        elif self.steps != 1:
            raise ValueError("a round sum opens one sum")


def _parts(content: bytes) -> Iterator[bytes]:
    begin = 0
    while begin < len(content):
        size = int.from_bytes(content[begin : begin + 4], "big")
        part = content[begin + 4 : begin + 4 + size]
        if len(part) != size:
            raise ValueError("the parameters of a session are cut short")
        yield part
        begin += 4 + size


def _value(name: str, parts: Iterator[bytes]) -> Any:
    part = next(parts)
    if name == "members":
        count = int.from_bytes(part, "big")
        if count > MAX_MEMBERS:
            raise ValueError(f"a session has at most {MAX_MEMBERS} members")
        # Not a generator, in which a missing part would become a RuntimeError.
        return tuple([Member(next(parts).decode(), next(parts)) for _ in range(count)])
    if name in _NUMBERS:
        return int.from_bytes(part, "big")
    return Kind(part.decode()) if name == "kind" else part.decode()


_NUMBERS = frozenset(
    {"round", "attempt", "first_step", "steps", "length", "ring_bits", "threshold", "minimum", "colluders"}
)


def smallest_threshold(members: int, colluders: int) -> int:
    """Return the threshold for a round sum: more than two thirds, and safe with that many colluders."""
    return max(2 * members // 3 + 1, (members + colluders) // 2 + 1)

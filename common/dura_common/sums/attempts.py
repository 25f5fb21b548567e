"""Series of secure sums and their attempts, and what follows from a loss. No input or output.

A series is identified by its parameters, which every site builds from the approved study. A series consists of
attempts. Each attempt is a session of the secure aggregation with fresh keys for all its members. It begins after the
sums that are already open, and has a **draw** number. An attempt of step sums lasts until all sums are open or a site
is lost. An attempt of round sums opens one sum.

A vector leaves its site only once. After a loss, every site that had sent a vector makes a new draw, with other
patients and other noise, and pays again. If the same vector were in two sums, even of the same sites, a coordinator
that had opened the first sum in silence could subtract the two sums. A site that missed an opened sum is left out of
the rest of the series.

All of this enters the context of the attempt, and therefore every key. If a coordinator tells two sites different
attempts, draws, members or opened sums, their masks do not cancel and their signatures are not valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg import Kind, SessionParameters, smallest_threshold
from dura_common.secagg.params import MAX_STEPS, MIN_MEMBERS


@dataclass(frozen=True)
class Series:
    """The sums that sites and coordinator want to open together, one after another.

    Raises:
        ValueError: the number of step sums differs from the parameters.
    """

    params: SessionParameters
    """The parameters with all members; for kind ``round``, the parameters of the first sum."""
    sums: int

    def __post_init__(self) -> None:
        if not 1 <= self.sums <= MAX_STEPS or (self.params.kind is Kind.STEP and self.sums != self.params.steps):
            raise ValueError(f"{self.sums} sums do not fit the parameters")

    @classmethod
    def of(cls, params: SessionParameters, sums: int | None = None) -> Self:
        """Return the series of a session, or of several round sums that follow one another."""
        return cls(params, params.steps if sums is None else sums)

    @cached_property
    def key(self) -> bytes:
        """The name of the series between sites and coordinator, 32 bytes."""
        return hashlib.sha256(b"dura series 1\0" + self.params.session_id + self.sums.to_bytes(4, "big")).digest()


@dataclass(frozen=True, slots=True)
class Position:
    """The progress of one site in a series."""

    opened: int
    """Number of sums that the site has seen."""
    draw: int = 0
    """Draw number of its pending vector."""
    sent: bool = False
    """Whether the pending vector left the site under masks."""


@dataclass(frozen=True, slots=True)
class LastSum:
    """The sum that was opened last."""

    values: NDArray[np.int64]
    contributors: tuple[str, ...]

    def digest(self) -> bytes:
        """Return the SHA-256 of values and contributors."""
        names = "\0".join(self.contributors).encode()
        return hashlib.sha256(hashlib.sha256(names).digest() + encode_values(self.values)).digest()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as every member must see it."""

    number: int
    members: tuple[str, ...]
    """Sorted."""
    opened: int
    draw: int


class TooFew(Exception):
    """Fewer sites are left than the study demands."""


def next_attempt(series: Series, number: int, opened: int, positions: Mapping[str, Position]) -> Attempt:
    """Return the next attempt of the sites that attend and have seen every opened sum.

    Every sum must contain two sites that do not collude.

    Raises:
        TooFew: not enough sites are left.
    """
    params = series.params
    members = tuple(sorted(name for name, position in positions.items() if position.opened == opened))
    if len(members) < max(params.minimum, params.colluders + MIN_MEMBERS):
        raise TooFew
    draw = max(positions[name].draw for name in members)
    return Attempt(number, members, opened, draw + any(positions[name].sent for name in members))


def attempt_parameters(series: Series, attempt: Attempt, last: LastSum | None) -> SessionParameters:
    """Return the parameters under which the secure aggregation of one attempt runs.

    Raises:
        ValueError: a member is not in the series, the members are too few, or no sum is left to open.
    """
    params = series.params
    if not set(attempt.members) <= set(params.names) or len(attempt.members) < params.minimum:
        raise ValueError("the members of an attempt are members of the series, and as many as the study demands")
    if attempt.opened >= series.sums:
        raise ValueError("all sums of the series are opened")
    numbers = b"".join(value.to_bytes(4, "big") for value in (attempt.number, attempt.opened, attempt.draw))
    known = last.digest() if last else bytes(32)
    return replace(
        params,
        attempt=attempt.number,
        first_step=params.first_step + attempt.opened,
        steps=params.steps - attempt.opened if params.kind is Kind.STEP else 1,
        members=tuple(member for member in params.members if member.name in attempt.members),
        threshold=_threshold(params, len(attempt.members)),
        context=hashlib.sha256(b"dura attempt 1\0" + series.key + numbers + known).hexdigest(),
    )


def _threshold(params: SessionParameters, count: int) -> int:
    if params.kind is Kind.STEP:
        return count
    return params.threshold if count == len(params.members) else smallest_threshold(count, params.colluders)


def encode_values(values: NDArray[np.int64], ring_bits: int = 64) -> bytes:
    """Return an opened sum (length,) of a ring in the form in which it is sent: little-endian integers of its size."""
    return np.ascontiguousarray(values, dtype=_integer(ring_bits)).tobytes()


def decode_values(content: bytes, length: int, ring_bits: int = 64) -> NDArray[np.int64]:
    """Read a sum of ``length`` values of a ring.

    Raises:
        ValueError: the length is another one.
    """
    kind = _integer(ring_bits)
    if len(content) != length * kind.itemsize:
        raise ValueError(f"expected a sum of {length} values")
    return np.frombuffer(content, dtype=kind).astype(np.int64)


def _integer(ring_bits: int) -> np.dtype[np.signedinteger]:
    return np.dtype(f"<i{ring_bits // 8}")

"""A frozen transcript of three sites: the real sides, the second implementation and the file say the same bytes.

transcript.json was written by ``python -m tests.common.secagg.test_transcript`` from the second implementation
(reference.py); it changes only when the protocol changes, and then so does its number in the heading.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.common.secagg.reference import PRIME, Secrets, Session, round_frames, step_frames
from tests.support.secagg import sim

from dura_common.secagg import Kind, SessionParameters, round_site, step_site, wire
from dura_common.secagg.arithmetic import shamir
from dura_common.secagg.wire import Type

FILE = Path(__file__).with_name("transcript.json")
IDENTITIES = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3)]
NAMES = ("east", "north", "south")
VECTORS = [[[1, -2, 3], [10, 20, -30], [-100, 200, 300]], [[7, 7, 7], [-8, -8, -8], [2**28, -(2**28), 0]]]
"""By step and site; the round sums take the first."""
NOTES = [bytes([number]) * wire.note_size(3) for number in (7, 8, 9)]
SURVIVORS = {"round": (0, 1, 2), "dropout": (0, 2)}


def drawn(use: str, number: int) -> bytes:
    """Return what stands for the number-th draw of a use."""
    return hashlib.sha256(f"frozen {use} {number}".encode()).digest()


def secrets_of(site: int, kind: Kind) -> Secrets:
    """Return what a site draws; the threshold of the round sums is 2, so polynomials have one upper coefficient."""
    if kind is Kind.STEP:
        return Secrets(masking=drawn("key", site))
    upper = [int.from_bytes(drawn("coefficient", 2 * site + place)) % PRIME for place in range(2)]
    return Secrets(
        sealing=drawn("key", 2 * site),
        masking=drawn("key", 2 * site + 1),
        seed=drawn("seed", site),
        seed_polynomial=upper[:1],
        masking_polynomial=upper[1:],
    )


def parameters(kind: Kind) -> SessionParameters:
    """Return the frozen session."""
    members = dict(zip(NAMES, IDENTITIES, strict=True))
    steps = len(VECTORS) if kind is Kind.STEP else 1
    threshold = 3 if kind is Kind.STEP else 2
    return sim.parameters(members, kind=kind, length=3, steps=steps, threshold=threshold, first_step=5)


def reference(name: str) -> list[tuple[str, bytes]]:
    """Return the frames of one transcript by the second implementation."""
    kind = Kind.STEP if name == "step" else Kind.ROUND
    params = parameters(kind)
    drawn_by = [secrets_of(site, kind) for site in range(3)]
    session = Session(params.session_id, 32, params.threshold, IDENTITIES, drawn_by, NOTES)
    if kind is Kind.STEP:
        return step_frames(session, 5, VECTORS)
    return round_frames(session, VECTORS[0], SURVIVORS[name])


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the real sides draw frozen values, here and nowhere else."""
    numbers, seeds, coefficients = itertools.count(), itertools.count(), itertools.count()

    class FrozenKey:
        """Stands for the class of keys where the sites draw them."""

        @staticmethod
        def generate() -> X25519PrivateKey:
            return X25519PrivateKey.from_private_bytes(drawn("key", next(numbers)))

    class FrozenSecrets:
        """Stands for the module of the system's randomness."""

        @staticmethod
        def token_bytes(size: int) -> bytes:
            assert size == 32
            return drawn("seed", next(seeds))

        @staticmethod
        def randbelow(limit: int) -> int:
            assert limit == PRIME
            return int.from_bytes(drawn("coefficient", next(coefficients))) % limit

    for module in (round_site, step_site):
        monkeypatch.setattr(module, "X25519PrivateKey", FrozenKey)
    for module in (round_site, shamir):
        monkeypatch.setattr(module, "secrets", FrozenSecrets)


@pytest.mark.parametrize("name", ["step", "round", "dropout"])
def test_real_sides_send_the_frozen_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame up and down is, byte by byte, that of the second implementation and of the file."""
    kind = Kind.STEP if name == "step" else Kind.ROUND
    params = parameters(kind)
    freeze(monkeypatch)
    down: list[tuple[str, bytes]] = []
    gone = [NAMES[site] for site in range(3) if site not in SURVIVORS.get(name, range(3))]

    def note(site: str, frame: bytes) -> bytes:
        down.append((site, frame))
        return frame

    simulation = sim.Simulation(
        params,
        dict(zip(NAMES, IDENTITIES, strict=True)),
        lambda site, step: np.array(VECTORS[step - 5][NAMES.index(site)]),
        drops={Type.MASKED: gone},
        downward=note,
        notes=dict(zip(NAMES, NOTES, strict=True)),
    )
    opened = simulation.run()

    wanted = reference(name)
    up = {(f"site {NAMES.index(site)}", frame) for site, frames in simulation.seen.items() for frame in frames}
    assert up == {(party, frame) for party, frame in wanted if party.startswith("site")}
    to_all = {frame for party, frame in wanted if party == "all"}
    to_one = {(party, frame) for party, frame in wanted if party.startswith("to")}
    single = Type.SEALED_SHARES
    assert {frame for _, frame in down if frame[0] != single} == to_all
    assert {(f"to {NAMES.index(site)}", frame) for site, frame in down if frame[0] == single} == to_one
    assert [frame.hex() for _, frame in wanted] == [entry["frame"] for entry in json.loads(FILE.read_text())[name]]
    for number, one in enumerate(opened):
        inside = [VECTORS[number][NAMES.index(site)] for site in one.contributors]
        assert one.total.tolist() == np.sum(inside, axis=0).tolist()
        assert len(inside) == 3 - len(gone)


def test_session_id_is_frozen() -> None:
    """The canonical encoding of the parameters and its digest are those of the file, and decode to the same."""
    known = json.loads(FILE.read_text())
    for kind in Kind:
        params = parameters(kind)
        assert params.encode().hex() == known["parameters"][kind]
        assert params.session_id.hex() == known["session"][kind]
        assert SessionParameters.decode(params.encode()) == params


def written() -> str:
    """Return the file's text, frames by the second implementation."""
    content: dict[str, Any] = {
        "heading": "dura secure sum 4",
        "parameters": {kind.value: parameters(kind).encode().hex() for kind in Kind},
        "session": {kind.value: hashlib.sha256(parameters(kind).encode()).hexdigest() for kind in Kind},
    }
    for name in ("step", "round", "dropout"):
        content[name] = [
            {"party": party, "type": wire.Type(frame[0]).name, "frame": frame.hex()} for party, frame in reference(name)
        ]
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(written())

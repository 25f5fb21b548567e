"""Parameters by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.secagg import sim
from tests.support.secagg.sites import session

from dura_common.secagg import (
    Kind,
    Member,
    SessionParameters,
    smallest_threshold,
)


class TestParameters:
    """What both sides agree on before a session."""

    @given(
        count=st.integers(2, 12),
        numbers=st.tuples(*[st.integers(1, 1000)] * 3),
        digest=st.binary(min_size=32, max_size=32),
        kind=st.sampled_from(Kind),
    )
    def test_the_encoding_decodes_to_the_same(
        self, count: int, numbers: tuple[int, int, int], digest: bytes, kind: Kind
    ) -> None:
        """Canonical bytes there and back; any cut is refused."""
        round_number, attempt, first = numbers
        params = session(count, kind, round=round_number, attempt=attempt, first_step=first, state=digest.hex())
        content = params.encode()
        assert SessionParameters.decode(content) == params
        for cut in range(0, len(content), 7):
            with pytest.raises(ValueError, match=r".+"):
                SessionParameters.decode(content[:cut])

    def test_every_flipped_byte_is_refused_or_another_session(self) -> None:
        """No two encodings mean one session."""
        params = session(3, Kind.ROUND)
        content = params.encode()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            try:
                other = SessionParameters.decode(bytes(changed))
            except ValueError:
                continue
            assert other != params
            assert other.session_id != params.session_id

    def test_every_field_changes_the_session(self) -> None:
        """A session that differs in any single field has another id, so shares no key and no signature."""
        params = session(4, Kind.ROUND, threshold=3)
        other = sim.identities(4)
        changes: dict[str, object] = {
            "study": "44" * 32,
            "roster": "44" * 32,
            "purpose": "evaluate",
            "round": 2,
            "attempt": 2,
            "first_step": 2,
            "state": "44" * 32,
            "context": "44" * 32,
            "length": 6,
            "ring_bits": 64,
            "threshold": 4,
            "minimum": 3,
            "colluders": 1,
            "members": tuple(Member(name, key.public_key().public_bytes_raw()) for name, key in other.items()),
        }
        varied = [replace(params, **{name: value}) for name, value in changes.items()]  # type: ignore[arg-type]  # by name
        step = replace(params, kind=Kind.STEP, threshold=4)
        varied += [step, replace(step, steps=2)]
        assert changes.keys() | {"kind", "steps"} == SessionParameters.__dataclass_fields__.keys()
        assert len({one.session_id for one in [params, *varied]}) == len(varied) + 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"study": "11" * 31}, "hex digits"),
            ({"context": "AA" * 32}, "hex digits"),
            ({"purpose": "Train"}, "lower-case"),
            ({"round": 0}, "round must"),
            ({"attempt": 0}, "attempt must"),
            ({"first_step": 100_001}, "first_step must"),
            ({"length": 0}, "length must"),
            ({"length": 50_000_001}, "length must"),
            ({"ring_bits": 16}, "ring_bits"),
            ({"threshold": 2}, "threshold >"),
            ({"threshold": 6}, "threshold >"),
            ({"threshold": 3, "colluders": 1}, "threshold >"),
            ({"minimum": 1}, "minimum"),
            ({"minimum": 6}, "minimum"),
            ({"colluders": 4, "threshold": 5}, "do not collude"),
            ({"colluders": -1}, "do not collude"),
            ({"steps": 2}, "opens one sum"),
        ],
    )
    def test_values_that_contradict_each_other_are_refused(self, changes: dict[str, int], message: str) -> None:
        """A study with unsafe numbers makes no session."""
        with pytest.raises(ValueError, match=message):
            session(5, Kind.ROUND, **changes)

    def test_a_step_session_needs_everybody(self) -> None:
        """A threshold below the number of members has no meaning for a step sum."""
        with pytest.raises(ValueError, match="all or nothing"):
            session(5, Kind.STEP, threshold=4)

    def test_members_are_distinct_sorted_and_few(self) -> None:
        """No name and no key twice, in one order only, from 2 to 500."""
        params = session(3, Kind.STEP)
        one, two, three = params.members
        for members, message in (
            ((two, one, three), "sorted"),
            ((one, one, three), "sorted"),
            ((one, replace(two, identity=one.identity), three), "distinct identities"),
            ((one, replace(two, identity=b"short"), three), "32 bytes"),
            ((one,), "2 to 500"),
        ):
            with pytest.raises(ValueError, match=message):
                replace(params, members=members, threshold=len(members), minimum=2)
        with pytest.raises(ValueError, match="2 to 500"):
            replace(
                params,
                members=tuple(Member(f"{number:03d}", number.to_bytes(32)) for number in range(501)),
                threshold=501,
            )

    @pytest.mark.parametrize(
        ("count", "colluders", "threshold"), [(3, 0, 3), (5, 0, 4), (10, 0, 7), (20, 0, 14), (10, 6, 9)]
    )
    def test_the_smallest_threshold_is_safe(self, count: int, colluders: int, threshold: int) -> None:
        """More than two thirds, and 2 t > n + c."""
        assert smallest_threshold(count, colluders) == threshold
        assert 2 * threshold > count + colluders
        session(count, Kind.ROUND, colluders=colluders, threshold=threshold)

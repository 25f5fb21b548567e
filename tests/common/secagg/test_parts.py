"""Masks, numbers, shares, frames and parameters by themselves."""

from __future__ import annotations

import itertools
import math
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.common.secagg.reference import keystream
from tests.common.secagg.world import session, to_words
from tests.support import secagg_sim as sim

from dura_common.secagg import (
    Abort,
    FixedPoint,
    Kind,
    Member,
    Reason,
    SessionParameters,
    largest_value,
    max_frame,
    smallest_threshold,
    wire,
)
from dura_common.secagg.arithmetic import masks, shamir
from dura_common.secagg.arithmetic.masks import PART, PIECE, add_masks, word_type
from dura_common.secagg.ring import from_words

KEYS = [bytes([number]) * 32 for number in range(5)]
FRAME = st.builds(
    wire.encode, st.sampled_from(wire.Type), st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1), st.binary()
)


class TestMasks:
    """Keystreams added in the ring."""

    @pytest.mark.parametrize("bits", [32, 64])
    @pytest.mark.parametrize("extra", [-1, 0, 1])
    @pytest.mark.parametrize("pieces", [0, 1, 2, 9])
    def test_words_are_little_endian_words_of_the_keystream(self, bits: int, extra: int, pieces: int) -> None:
        """A mask is the keystream cut into little-endian words, also at the borders of pieces and threads' parts."""
        count = max(0, pieces * PIECE * 8 // bits + extra)
        words = np.zeros(count, dtype=word_type(bits))
        add_masks(words, KEYS[:1], [])
        whole = masks._stream(KEYS[0], 0).update(bytes(words.nbytes))
        assert words.tobytes() == whole
        sample = min(words.nbytes, 4096)
        assert whole[:sample] == keystream(KEYS[0], sample)
        if count:
            last = struct.unpack("<" + "IQ"[bits == 64], whole[-bits // 8 :])
            assert int(words[-1]) == last[0]

    @pytest.mark.parametrize("threads", [1, 2, 3, 4, 16])
    @pytest.mark.parametrize("size", [0, 1, PART // 4, 4 * PART // 4 + 17])
    def test_threads_change_nothing(self, threads: int, size: int) -> None:
        """The same words come out for any number of threads."""
        first, second = (np.arange(size, dtype="<u4") for _ in range(2))
        add_masks(first, KEYS[:2], KEYS[2:], threads=1)
        add_masks(second, KEYS[:2], KEYS[2:], threads=threads)
        assert np.array_equal(first, second)

    @pytest.mark.parametrize("piece", [64, 4096, 1 << 20])
    def test_the_size_of_pieces_changes_nothing(self, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same words come out for any size of pieces."""
        first, second = (np.zeros(100_003, dtype="<u8") for _ in range(2))
        add_masks(first, KEYS, [], threads=1)
        monkeypatch.setattr(masks, "PIECE", piece)
        monkeypatch.setattr(masks, "_ZEROS", bytes(piece))
        add_masks(second, KEYS, [], threads=1)
        assert np.array_equal(first, second)

    @given(values=arrays.arrays("<u4", st.integers(0, 300)), chosen=st.permutations(KEYS))
    def test_opposite_masks_cancel(self, values: np.ndarray, chosen: list[bytes]) -> None:
        """What is added with some keys and subtracted with the same is as before."""
        words = values.copy()
        add_masks(words, chosen[:3], chosen[3:])
        assert values.size < 8 or not np.array_equal(words, values)
        add_masks(words, chosen[3:], chosen[:3])
        assert np.array_equal(words, values)


class TestNumbers:
    """Integers in the ring and reals on a grid."""

    @given(
        values=arrays.arrays(np.int64, st.integers(1, 9000), elements=st.integers(-(10**8), 10**8)),
        bits=st.sampled_from([32, 64]),
    )
    @settings(max_examples=50, deadline=None)
    def test_words_give_the_integers_back(self, values: np.ndarray, bits: int) -> None:
        """Two's complement there and back."""
        assert np.array_equal(from_words(to_words(values, bits, 20)), values)

    @given(
        values=arrays.arrays(np.int64, st.integers(1, 9000), elements=st.integers(-(10**8), 10**8)),
        bits=st.sampled_from([32, 64]),
    )
    @settings(max_examples=50, deadline=None)
    def test_check_words_are_the_sums_by_definition(self, values: np.ndarray, bits: int) -> None:
        """Two zeros, the sum, and the sum weighted by place, as Python's integers give them."""
        words = to_words(values, bits, 20)
        plain = sum(values.tolist()) % 2**bits
        weighted = sum(place * value for place, value in enumerate(values.tolist())) % 2**bits
        assert [int(word) for word in words[-4:]] == [0, 0, plain, weighted]

    @given(data=st.data(), length=st.integers(1, 9000), bits=st.sampled_from([32, 64]))
    @settings(max_examples=100, deadline=None)
    def test_damage_of_one_word_is_always_seen(self, data: st.DataObject, length: int, bits: int) -> None:
        """Any change of any single word, check words included, is noticed; so are two words that changed places."""
        words = to_words(np.arange(length), bits, 2)
        place = data.draw(st.integers(0, length + 3))
        words[place : place + 1] += word_type(bits).type(data.draw(st.integers(1, 2**bits - 1)))
        with pytest.raises(Abort, match="damaged"):
            from_words(words)
        if length > 1:
            swapped = to_words(np.arange(length), bits, 2)
            one, other = data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2, unique=True))
            swapped[[one, other]] = swapped[[other, one]]
            with pytest.raises(Abort, match="damaged"):
                from_words(swapped)

    @pytest.mark.parametrize("bits", [32, 64])
    @pytest.mark.parametrize("members", [2, 3, 100, 500])
    def test_the_limit_is_the_largest_safe_one(self, bits: int, members: int) -> None:
        """N times the limit fits a signed word, and n times one more does not."""
        limit = largest_value(bits, members)
        assert members * limit <= 2 ** (bits - 1) - 1 < members * (limit + 1)
        with pytest.raises(Abort) as caught:
            to_words(np.array([limit + 1]), bits, members)
        assert caught.value.reason is Reason.OUT_OF_RANGE
        with pytest.raises(Abort):
            to_words(np.array([-limit - 1]), bits, members)
        assert from_words(to_words(np.array([limit, -limit]), bits, members)).tolist() == [limit, -limit]

    @given(
        values=arrays.arrays(
            st.sampled_from([np.float16, np.float32, np.float64]),
            st.integers(1, 100),
            elements=st.floats(-(2.0**15), 2.0**15, width=16),
        ),
        norm=st.floats(1e-3, 1e3),
        bits=st.sampled_from([32, 64]),
        members=st.integers(2, 500),
    )
    @settings(max_examples=200, deadline=None)
    def test_fixed_point_keeps_norm_and_value(self, values: np.ndarray, norm: float, bits: int, members: int) -> None:
        """Integers are the clipped reals to half a grid step, within the stated norm, and leave half of the ring."""
        grid = FixedPoint(norm, bits, members)
        integers = grid.encode(values)
        exact = values.astype(np.float64)
        length = float(np.linalg.norm(exact))
        clipped = exact * min(1.0, norm / length) if length else exact
        step = 2.0**-grid.fraction_bits
        # Beside half a step there is the rounding of float64 itself, at most 2^-51 of the value.
        assert np.abs(grid.decode(integers) - clipped).max() <= step / 2 + 2.0**-51 * norm
        in_steps = float(np.linalg.norm(integers.astype(np.float64)))
        assert in_steps <= (norm / step) * (1 + 2.0**-50) + math.sqrt(values.size) / 2
        assert 2 * (int(np.abs(integers).max()) - 1) <= largest_value(bits, members)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("place", [0, 40_000])
    def test_a_value_that_is_no_number_is_refused(self, bad: float, place: int) -> None:
        """NaN and infinity end the session instead of becoming integers."""
        values = np.zeros(70_000, dtype=np.float32)
        values[place] = bad
        with pytest.raises(Abort) as caught:
            FixedPoint(1.0, 32, 3).encode(values)
        assert caught.value.reason is Reason.OUT_OF_RANGE

    def test_huge_numbers_do_not_overflow(self) -> None:
        """A vector whose squares overflow has no usable direction: zero is sent, nothing beyond the norm."""
        assert not FixedPoint(1.0, 32, 3).encode(np.array([1e300, 1.0])).any()
        assert not FixedPoint(1.0, 32, 3).encode(np.full(200_000, 4e151)).any(), (
            "each block's sum is finite, all are not"
        )

    def test_a_ring_that_is_too_small_is_refused(self) -> None:
        """A norm that leaves no whole number is a mistake of the study."""
        with pytest.raises(ValueError, match="does not fit"):
            FixedPoint(2.0**31, 32, 3)
        for norm in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="positive and finite"):
                FixedPoint(norm, 32, 3)


class TestShares:
    """Shamir's scheme."""

    @given(secret=st.binary(min_size=32, max_size=32), count=st.integers(1, 12), data=st.data())
    @settings(max_examples=50, deadline=None)
    def test_any_threshold_of_shares_gives_the_secret(self, secret: bytes, count: int, data: st.DataObject) -> None:
        """Any t holders of any n join the secret."""
        threshold = data.draw(st.integers(1, count))
        shares = shamir.split(secret, range(count), threshold)
        chosen = data.draw(st.permutations(range(count)))[:threshold]
        assert shamir.join({holder: shares[holder] for holder in chosen}, shamir.weights(chosen)) == secret

    def test_fewer_shares_say_nothing_in_a_small_field(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over 11 elements, by every polynomial: with t - 1 shares each secret stays equally likely; t give it."""
        prime, threshold, holders = 11, 3, (0, 1, 2, 3)
        monkeypatch.setattr(shamir, "PRIME", prime)
        seen: dict[tuple[int, ...], Counter[int]] = {}
        whole: dict[tuple[int, ...], set[int]] = {}
        for secret, *upper in itertools.product(range(prime), repeat=threshold):
            left = iter(upper)
            monkeypatch.setattr(shamir.secrets, "randbelow", lambda _limit, left=left: next(left))
            shares = shamir.split(secret.to_bytes(32, "big"), holders, threshold)
            numbers = [int.from_bytes(shares[holder], "big") for holder in holders]
            for chosen in itertools.combinations(holders, threshold - 1):
                view = (*chosen, *(numbers[holder] for holder in chosen))
                seen.setdefault(view, Counter())[secret] += 1
            for chosen in itertools.combinations(holders, threshold):
                whole.setdefault((*chosen, *(numbers[holder] for holder in chosen)), set()).add(secret)
                joined = shamir.join({holder: shares[holder] for holder in chosen}, shamir.weights(chosen))
                assert int.from_bytes(joined, "big") == secret
        assert len(seen) == 6 * prime**2
        assert all(counts == Counter(range(prime)) for counts in seen.values())
        assert all(len(secrets) == 1 for secrets in whole.values())

    def test_a_wrong_share_gives_another_secret(self) -> None:
        """A changed share never gives the secret: commitment and public key show it."""
        secret = bytes(range(32))
        shares = shamir.split(secret, range(4), 3)
        for holder in range(3):
            wrong = {peer: shares[peer] for peer in range(3)}
            wrong[holder] = (int.from_bytes(wrong[holder], "big") ^ 1).to_bytes(33, "big")
            try:
                assert shamir.join(wrong, shamir.weights(range(3))) != secret
            except ValueError as error:
                assert "belong together" in str(error)  # noqa: PT017  # either way the secret is not given

    @pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), b"\xff" * 33, shamir.PRIME.to_bytes(33, "big")])
    def test_what_is_no_share_is_refused(self, share: bytes) -> None:
        """Another length, or a number outside the field."""
        with pytest.raises(ValueError, match="not a number of the field"):
            shamir.join({0: share}, shamir.weights([0]))

    def test_a_number_that_is_no_secret_is_refused(self) -> None:
        """The field holds a few numbers that need 33 bytes; no secret is one."""
        with pytest.raises(ValueError, match="belong together"):
            shamir.join({0: (2**256).to_bytes(33, "big")}, shamir.weights([0]))
        with pytest.raises(ValueError, match="same holders"):
            shamir.join({0: bytes(33)}, shamir.weights([1]))

    def test_wrong_thresholds_are_refused(self) -> None:
        """A threshold lies between one and the number of holders; a secret has 32 bytes."""
        for threshold in (0, 4):
            with pytest.raises(ValueError, match="threshold"):
                shamir.split(bytes(32), range(3), threshold)
        with pytest.raises(ValueError, match="32 bytes"):
            shamir.split(bytes(31), range(3), 2)

    def test_the_field_is_the_smallest_above(self) -> None:
        """2^256 + 297 passes forty rounds of Miller and Rabin, and no number between it and 2^256 passes."""

        def passes(number: int) -> bool:
            odd = number - 1
            twos = (odd & -odd).bit_length() - 1
            odd >>= twos
            for base in range(2, 42):
                value = pow(base, odd, number)
                if value not in {1, number - 1} and not any(
                    (value := value * value % number) == number - 1 for _ in range(twos - 1)
                ):
                    return False
            return True

        assert [number for number in range(2**256 + 1, 2**256 + 298, 2) if passes(number)] == [shamir.PRIME]


class TestFrames:
    """The wire."""

    @given(frame=FRAME)
    def test_frames_decode_to_themselves(self, frame: bytes) -> None:
        """Encoding a decoded frame gives its bytes."""
        parted = wire.decode(frame)
        assert wire.encode(parted.type, parted.session, parted.step, parted.body) == frame

    @given(content=st.binary(max_size=200))
    def test_any_bytes_are_a_frame_or_malformed(self, content: bytes) -> None:
        """Nothing but an abort comes of garbage."""
        try:
            parted = wire.decode(content)
        except Abort as abort:
            assert abort.reason is Reason.MALFORMED  # noqa: PT017  # either outcome is right
        else:
            assert wire.encode(parted.type, parted.session, parted.step, parted.body) == content

    @given(body=st.binary(max_size=120), size=st.integers(0, 40), members=st.integers(0, 70_000))
    def test_any_body_is_a_list_or_malformed(self, body: bytes, size: int, members: int) -> None:
        """A list decodes to items in order within the members, or is malformed."""
        try:
            items = wire.decode_items(memoryview(body), size, members)
        except Abort as abort:
            assert abort.reason is Reason.MALFORMED  # noqa: PT017  # either outcome is right
        else:
            assert wire.encode_items(items) == body
            assert all(index < members and len(item) == size for index, item in items.items())

    @given(items=st.dictionaries(st.integers(0, 499), st.binary(min_size=7, max_size=7), max_size=20))
    def test_lists_decode_to_themselves(self, items: dict[int, bytes]) -> None:
        """There and back; cut, lengthened, doubled or swapped lists are refused."""
        body = wire.encode_items(items)
        assert wire.decode_items(memoryview(body), 7, 500) == items
        for wrong in (body[:-1], body + b"\0", body[2:]):
            with pytest.raises(Abort):
                wire.decode_items(memoryview(wrong), 7, 500)
        if items:
            doubled = (len(items) + 1).to_bytes(2, "big") + body[2:] + body[-9:]
            with pytest.raises(Abort, match="distinct"):
                wire.decode_items(memoryview(doubled), 7, 500)

    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize(("count", "length"), [(3, 1), (12, 1), (3, 5000)])
    def test_no_frame_is_larger_than_the_stated_maximum(self, kind: Kind, count: int, length: int) -> None:
        """Both ways, for few and many sites, short and long vectors."""
        members = sim.identities(count)
        params = sim.parameters(members, kind=kind, length=length)
        sizes = []

        def note(_site: str, frame: bytes) -> bytes:
            sizes.append(len(frame))
            return frame

        zeros = np.zeros(length, dtype=np.int64)
        sim.Simulation(params, members, lambda *_: zeros, upward=note, downward=note).run()
        assert max(sizes) <= max_frame(params) <= max(sizes) + 2048


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

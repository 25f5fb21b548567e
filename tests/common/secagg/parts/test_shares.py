"""Shares by themselves."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_common.secagg.arithmetic import shamir


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

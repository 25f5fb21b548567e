"""Frames by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.secagg import sim

from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    max_frame,
    wire,
)

FRAME = st.builds(
    wire.encode, st.sampled_from(wire.Type), st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1), st.binary()
)


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
            with pytest.raises(Abort, match=r"a list of \d+ items has a body|is expected, got"):
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

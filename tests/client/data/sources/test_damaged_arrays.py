"""An ``.npz`` file that is damaged, encrypted or packed in an odd way is told of, and ends nothing."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dura_client.data.recordings.source import Unreadable
from dura_client.data.sources.fmri.series import Series, read_series
from dura_client.data.store.digests import FileDigests


def packed() -> bytes:
    """Return the content of a file with one array, one."""
    stream = io.BytesIO()
    np.savez_compressed(stream, one=np.arange(60.0).reshape(20, 3))
    return stream.getvalue()


GOOD = packed()
FLAGS = GOOD.index(b"PK\x01\x02") + 8
"""Of the archive's directory: bit 0 says that the array is encrypted; the method of packing is two bytes later."""


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
@example(place=FLAGS, value=1)
@example(place=FLAGS + 2, value=99)
def test_a_changed_byte_ends_neither_reading_nor_naming(place: int, value: int) -> None:
    """Reading gives an array or says why not, and the digest is a word, whatever was changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "series.npz"
        path.write_bytes(GOOD[:place] + bytes([value]) + GOOD[place + 1 :])
        with suppress(Unreadable):
            assert read_series(Series("01", None, path, "one")).ndim == 2
        assert FileDigests(None, folder, b"k").of(path, "one")


@pytest.mark.parametrize(("place", "value"), [(FLAGS, 1), (FLAGS + 2, 99)], ids=["encrypted", "packed in another way"])
def test_what_cannot_be_taken_out_is_told(tmp_path: Path, place: int, value: int) -> None:
    """The finding has no word of the library's own, which may hold a name from the file."""
    path = tmp_path / "series.npz"
    path.write_bytes(GOOD[:place] + bytes([value]) + GOOD[place + 1 :])
    with pytest.raises(Unreadable, match="no such table of numbers"):
        read_series(Series("01", None, path, "one"))

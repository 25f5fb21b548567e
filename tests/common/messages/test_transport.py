"""Messages as Flower records: what was packed comes back, everything else is refused before it is read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dura_common.errors import InputError
from dura_common.messages.records import from_records, to_records

LIMIT = 100


@given(
    body=st.binary(max_size=200),
    vector=st.none() | arrays(np.float32, st.integers(1, LIMIT), elements=st.floats(width=32, allow_nan=True)),
)
def test_what_was_packed_comes_back_bit_for_bit(body: bytes, vector: NDArray[np.float32] | None) -> None:
    """Body and vector survive, infinities and NaN included: whether those are wanted is for the gate to say."""
    got_body, got = from_records(to_records(body, vector), max_parameters=LIMIT)
    assert got_body == body
    if vector is None:
        assert got is None
    else:
        assert got is not None
        assert got.tobytes() == vector.tobytes()


def declared(values: NDArray[Any], **changes: Any) -> Array:
    """Return an array record whose declaration differs from its content."""
    honest = Array(values)
    fields = {"dtype": honest.dtype, "shape": honest.shape, "stype": honest.stype, "data": honest.data}
    return Array(**{**fields, **changes})


def npy(values: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    """Return the bytes of a numpy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=allow_pickle)
    return stream.getvalue()


def with_vector(array: Array, key: str = "vector") -> RecordDict:
    """Return a message with some array in the vector's place."""
    return RecordDict({"dura": ConfigRecord({"body": b"x"}), "vector": ArrayRecord({key: array})})


GOOD = np.ones(4, np.float32)


class Bomb:
    """Says so if it is ever unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a call that a test would notice."""
        return pytest.fail, ("unpickled",)


FOREIGN = {
    "nothing": RecordDict({}),
    "no body": RecordDict({"vector": ArrayRecord({"vector": Array(GOOD)})}),
    "text body": RecordDict({"dura": ConfigRecord({"body": "x"})}),
    "a second key in the body": RecordDict({"dura": ConfigRecord({"body": b"x", "more": b"y"})}),
    "a third record": RecordDict({"dura": ConfigRecord({"body": b"x"}), "more": ConfigRecord({"a": 1})}),
    "metrics for a body": RecordDict({"dura": MetricRecord({"body": 1.0})}),
    "metrics for a vector": RecordDict({"dura": ConfigRecord({"body": b"x"}), "vector": MetricRecord({"a": 1.0})}),
    "another name": with_vector(Array(GOOD), "weights"),
    "two vectors": RecordDict(
        {"dura": ConfigRecord({"body": b"x"}), "vector": ArrayRecord({"vector": Array(GOOD), "b": Array(GOOD)})}
    ),
    "float64": with_vector(Array(np.ones(4))),
    "integers": with_vector(Array(np.ones(4, np.int32))),
    "a matrix": with_vector(Array(np.ones((2, 2), np.float32))),
    "empty": with_vector(Array(np.ones(0, np.float32))),
    "too long": with_vector(Array(np.ones(LIMIT + 1, np.float32))),
    "a shape that lies": with_vector(declared(np.ones(LIMIT + 1, np.float32), shape=(4,))),
    "a type that lies": with_vector(declared(np.ones(4), dtype="float32")),
    "not a numpy file": with_vector(declared(GOOD, data=b"garbage")),
    "cut short": with_vector(declared(GOOD, data=npy(GOOD)[:-3])),
    "no bytes": with_vector(declared(GOOD, data=b"")),
    "a pickle": with_vector(declared(GOOD, data=pickle.dumps(Bomb()))),
    "objects": with_vector(declared(GOOD, data=npy(np.array([Bomb()] * 4), allow_pickle=True))),
    "another kind of array": with_vector(declared(GOOD, stype="torch")),
    "not records": b"bytes",
    "none": None,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_anything_else_is_refused(content: object) -> None:
    """Foreign, lying, oversized or executable content is one InputError; no pickle is ever opened."""
    with pytest.raises(
        InputError, match=r"a message must hold|a vector (cannot be read|is not what it declares|must be|must have)"
    ):
        from_records(content, max_parameters=LIMIT)


def test_a_header_that_asks_for_much_memory_costs_none() -> None:
    """A numpy header that declares terabytes, in an array declared small, is refused and nothing is allocated."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(InputError, match="is not what it declares to be"):
        from_records(with_vector(declared(GOOD, data=content)), max_parameters=LIMIT)

"""Messages as Flower records: one body, at most one float32 vector, and nothing else."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from dura_common.errors import InputError

BODY = "dura"
VECTOR = "vector"


def to_records(body: bytes, vector: NDArray[np.float32] | None) -> RecordDict:
    """Pack a message."""
    records = RecordDict({BODY: ConfigRecord({"body": body})})
    if vector is not None:
        records[VECTOR] = ArrayRecord({VECTOR: Array(np.ascontiguousarray(vector, dtype=np.float32))})
    return records


def from_records(content: object, *, max_parameters: int) -> tuple[bytes, NDArray[np.float32] | None]:
    """Unpack a message.

    Raises:
        InputError: other records than one body and at most one 1-D float32 vector of ``max_parameters``.
    """
    if not isinstance(content, RecordDict) or not set(content) <= {BODY, VECTOR}:
        raise InputError("a message must hold one body and at most one vector")
    config = content.get(BODY)
    if not isinstance(config, ConfigRecord) or set(config) != {"body"} or not isinstance(config["body"], bytes):
        raise InputError("a message must hold one body of bytes")
    record = content.get(VECTOR)
    if record is None:
        return config["body"], None
    if not isinstance(record, ArrayRecord) or set(record) != {VECTOR}:
        raise InputError("a message must hold one vector at most")
    return config["body"], _vector(record[VECTOR], max_parameters)


def _vector(array: Array, max_parameters: int) -> NDArray[np.float32]:
    # The declared form is checked before numpy reads the bytes; np.load inside refuses pickles.
    if array.dtype != "float32" or len(array.shape) != 1 or not 0 < array.shape[0] <= max_parameters:
        raise InputError(f"a vector must be 1-D float32 of at most {max_parameters} values")
    try:
        vector = array.numpy()
    except (ValueError, EOFError, OSError) as error:
        raise InputError("a vector cannot be read") from error
    if vector.dtype != np.float32 or vector.shape != tuple(array.shape):
        raise InputError("a vector is not what it declares to be")
    return vector

"""Messages as Flower records: one body, at most one float32 vector, and nothing else."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.constant import SType
from numpy.lib import format as npy
from numpy.typing import NDArray

from dura_common.errors import InputError

BODY = "dura"
VECTOR = "vector"
FLOAT_BYTES = 4


def to_records(body: bytes, vector: NDArray[np.float32] | None) -> RecordDict:
    """Pack a message."""
    records = RecordDict({BODY: ConfigRecord({"body": body})})
    if vector is not None:
        records[VECTOR] = ArrayRecord({VECTOR: Array(np.ascontiguousarray(vector, dtype=np.float32))})
    return records


def from_records(content: object, *, max_parameters: int) -> tuple[bytes, NDArray[np.float32] | None]:
    """Unpack a message.

    Raises:
        InputError: the records are not one body and at most one 1-D float32 vector of ``max_parameters``.
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
    if array.stype != SType.NUMPY or array.dtype != "float32" or len(array.shape) != 1:
        raise InputError("a vector must be a 1-D numpy array of float32")
    length = array.shape[0]
    if not 0 < length <= max_parameters:
        raise InputError(f"a vector must have at most {max_parameters} values")
    # numpy's own loader would allocate as much memory as the header asks for; here the header only has to agree.
    stream = BytesIO(array.data)
    try:
        if npy.read_magic(stream) != (1, 0):
            raise InputError("a vector is stored in another version of numpy's format")
        shape, _, dtype = npy.read_array_header_1_0(stream)
    except (ValueError, EOFError, OSError) as error:
        raise InputError("a vector cannot be read") from error
    values = array.data[stream.tell() :]
    if shape != (length,) or dtype != np.dtype("<f4") or len(values) != FLOAT_BYTES * length:
        raise InputError("a vector is not what it declares to be")
    return np.frombuffer(values, dtype="<f4").astype(np.float32)  # a copy that may be written to

from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    FINISHED: _ClassVar[Reason]
    UNKNOWN_SESSION: _ClassVar[Reason]
    NOT_A_MEMBER: _ClassVar[Reason]
    LOST: _ClassVar[Reason]
    MALFORMED: _ClassVar[Reason]
    REVOKED: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
FINISHED: Reason
UNKNOWN_SESSION: Reason
NOT_A_MEMBER: Reason
LOST: Reason
MALFORMED: Reason
REVOKED: Reason

class Piece(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class FromSite(_message.Message):
    __slots__ = ("hello", "piece")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    piece: Piece
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ...) -> None: ...

class ToSite(_message.Message):
    __slots__ = ("piece", "end")
    PIECE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    piece: Piece
    end: End
    def __init__(self, piece: _Optional[_Union[Piece, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("binding", "session")
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    binding: bytes
    session: bytes
    def __init__(self, binding: _Optional[bytes] = ..., session: _Optional[bytes] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("parameters", "join_seconds", "stage_seconds")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    JOIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STAGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    parameters: bytes
    join_seconds: float
    stage_seconds: float
    def __init__(self, parameters: _Optional[bytes] = ..., join_seconds: _Optional[float] = ..., stage_seconds: _Optional[float] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("opened", "lost")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    lost: Lost
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("step", "contributors", "total")
    STEP_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    step: int
    contributors: _containers.RepeatedScalarFieldContainer[str]
    total: bytes
    def __init__(self, step: _Optional[int] = ..., contributors: _Optional[_Iterable[str]] = ..., total: _Optional[bytes] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("message", "gone")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    message: str
    gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, message: _Optional[str] = ..., gone: _Optional[_Iterable[str]] = ...) -> None: ...

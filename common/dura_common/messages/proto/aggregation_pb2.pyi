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
    TOO_FEW_SITES: _ClassVar[Reason]
    PROTOCOL: _ClassVar[Reason]
    TOO_LATE: _ClassVar[Reason]
    CANCELLED: _ClassVar[Reason]
    REVOKED: _ClassVar[Reason]
    REPLACED: _ClassVar[Reason]
    TOO_MANY_ATTEMPTS: _ClassVar[Reason]
    SITE_FAULT: _ClassVar[Reason]
    NOT_KEPT: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
FINISHED: Reason
UNKNOWN_SESSION: Reason
NOT_A_MEMBER: Reason
TOO_FEW_SITES: Reason
PROTOCOL: Reason
TOO_LATE: Reason
CANCELLED: Reason
REVOKED: Reason
REPLACED: Reason
TOO_MANY_ATTEMPTS: Reason
SITE_FAULT: Reason
NOT_KEPT: Reason

class Piece(_message.Message):
    __slots__ = ("attempt", "data", "last")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    data: bytes
    last: bool
    def __init__(self, attempt: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class FromSite(_message.Message):
    __slots__ = ("hello", "piece", "leave")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    piece: Piece
    leave: Leave
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class ToSite(_message.Message):
    __slots__ = ("begin", "piece", "end")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: Begin
    piece: Piece
    end: End
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("binding", "session", "opened", "draw", "sent")
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    binding: bytes
    session: bytes
    opened: int
    draw: int
    sent: bool
    def __init__(self, binding: _Optional[bytes] = ..., session: _Optional[bytes] = ..., opened: _Optional[int] = ..., draw: _Optional[int] = ..., sent: _Optional[bool] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("attempt", "members", "opened", "draw")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    members: _containers.RepeatedScalarFieldContainer[str]
    opened: int
    draw: int
    def __init__(self, attempt: _Optional[int] = ..., members: _Optional[_Iterable[str]] = ..., opened: _Optional[int] = ..., draw: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("parameters", "join_seconds", "step_seconds", "rejoin_seconds", "sums")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    JOIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REJOIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    parameters: bytes
    join_seconds: float
    step_seconds: float
    rejoin_seconds: float
    sums: int
    def __init__(self, parameters: _Optional[bytes] = ..., join_seconds: _Optional[float] = ..., step_seconds: _Optional[float] = ..., rejoin_seconds: _Optional[float] = ..., sums: _Optional[int] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("opened", "finished", "failed")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    finished: Finished
    failed: Failed
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("data", "last", "step", "contributors", "draw")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    step: int
    contributors: _containers.RepeatedScalarFieldContainer[str]
    draw: int
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ..., step: _Optional[int] = ..., contributors: _Optional[_Iterable[str]] = ..., draw: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: int
    def __init__(self, attempts: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "lost")
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    reason: Reason
    lost: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reason: _Optional[_Union[Reason, str]] = ..., lost: _Optional[_Iterable[str]] = ...) -> None: ...

class LookRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LookReply(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Standing]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Standing, _Mapping]]] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("study", "round", "opened", "attempt", "attending", "purpose", "members", "sums")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ATTENDING_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    study: str
    round: int
    opened: int
    attempt: int
    attending: _containers.RepeatedScalarFieldContainer[str]
    purpose: str
    members: _containers.RepeatedScalarFieldContainer[str]
    sums: int
    def __init__(self, study: _Optional[str] = ..., round: _Optional[int] = ..., opened: _Optional[int] = ..., attempt: _Optional[int] = ..., attending: _Optional[_Iterable[str]] = ..., purpose: _Optional[str] = ..., members: _Optional[_Iterable[str]] = ..., sums: _Optional[int] = ...) -> None: ...

from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "user_id", "max_tokens", "temperature", "priority")
    class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[GenerateRequest.Priority]
        PREMIUM: _ClassVar[GenerateRequest.Priority]
        STANDARD: _ClassVar[GenerateRequest.Priority]
        BATCH: _ClassVar[GenerateRequest.Priority]
    UNSPECIFIED: GenerateRequest.Priority
    PREMIUM: GenerateRequest.Priority
    STANDARD: GenerateRequest.Priority
    BATCH: GenerateRequest.Priority
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    user_id: str
    max_tokens: int
    temperature: float
    priority: GenerateRequest.Priority
    def __init__(self, prompt: _Optional[str] = ..., user_id: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., priority: _Optional[_Union[GenerateRequest.Priority, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("text", "tokens_generated", "latency_ms", "finish_reason")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens_generated: int
    latency_ms: float
    finish_reason: str
    def __init__(self, text: _Optional[str] = ..., tokens_generated: _Optional[int] = ..., latency_ms: _Optional[float] = ..., finish_reason: _Optional[str] = ...) -> None: ...

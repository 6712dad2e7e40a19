from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("prompt", "model", "annotations", "options")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    model: str
    annotations: JobAnnotations
    options: GenerationOptions
    def __init__(self, prompt: _Optional[str] = ..., model: _Optional[str] = ..., annotations: _Optional[_Union[JobAnnotations, _Mapping]] = ..., options: _Optional[_Union[GenerationOptions, _Mapping]] = ...) -> None: ...

class JobAnnotations(_message.Message):
    __slots__ = ("target", "latency_critical", "prefer_power_efficiency", "cache_enabled", "max_latency_ms", "max_power_watts", "custom")
    class CustomEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    LATENCY_CRITICAL_FIELD_NUMBER: _ClassVar[int]
    PREFER_POWER_EFFICIENCY_FIELD_NUMBER: _ClassVar[int]
    CACHE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MAX_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    target: str
    latency_critical: bool
    prefer_power_efficiency: bool
    cache_enabled: bool
    max_latency_ms: int
    max_power_watts: int
    custom: _containers.ScalarMap[str, str]
    def __init__(self, target: _Optional[str] = ..., latency_critical: _Optional[bool] = ..., prefer_power_efficiency: _Optional[bool] = ..., cache_enabled: _Optional[bool] = ..., max_latency_ms: _Optional[int] = ..., max_power_watts: _Optional[int] = ..., custom: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GenerationOptions(_message.Message):
    __slots__ = ("max_tokens", "temperature", "top_p", "top_k", "stop", "context_length")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    context_length: int
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., context_length: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("response", "backend_used", "routing", "stats", "from_cache")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_USED_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    FROM_CACHE_FIELD_NUMBER: _ClassVar[int]
    response: str
    backend_used: str
    routing: RoutingMetadata
    stats: GenerationStats
    from_cache: bool
    def __init__(self, response: _Optional[str] = ..., backend_used: _Optional[str] = ..., routing: _Optional[_Union[RoutingMetadata, _Mapping]] = ..., stats: _Optional[_Union[GenerationStats, _Mapping]] = ..., from_cache: _Optional[bool] = ...) -> None: ...

class GenerateStreamResponse(_message.Message):
    __slots__ = ("token", "done", "backend_used", "stats")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_USED_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    token: str
    done: bool
    backend_used: str
    stats: GenerationStats
    def __init__(self, token: _Optional[str] = ..., done: _Optional[bool] = ..., backend_used: _Optional[str] = ..., stats: _Optional[_Union[GenerationStats, _Mapping]] = ...) -> None: ...

class RoutingMetadata(_message.Message):
    __slots__ = ("backend", "reason", "estimated_power_watts", "estimated_latency_ms", "alternatives")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    backend: str
    reason: str
    estimated_power_watts: float
    estimated_latency_ms: int
    alternatives: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, backend: _Optional[str] = ..., reason: _Optional[str] = ..., estimated_power_watts: _Optional[float] = ..., estimated_latency_ms: _Optional[int] = ..., alternatives: _Optional[_Iterable[str]] = ...) -> None: ...

class GenerationStats(_message.Message):
    __slots__ = ("time_to_first_token_ms", "total_time_ms", "tokens_generated", "tokens_per_second", "energy_wh")
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_GENERATED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ENERGY_WH_FIELD_NUMBER: _ClassVar[int]
    time_to_first_token_ms: int
    total_time_ms: int
    tokens_generated: int
    tokens_per_second: float
    energy_wh: float
    def __init__(self, time_to_first_token_ms: _Optional[int] = ..., total_time_ms: _Optional[int] = ..., tokens_generated: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., energy_wh: _Optional[float] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("text", "model", "annotations")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    model: str
    annotations: JobAnnotations
    def __init__(self, text: _Optional[str] = ..., model: _Optional[str] = ..., annotations: _Optional[_Union[JobAnnotations, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embedding", "backend_used", "routing")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    BACKEND_USED_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    embedding: _containers.RepeatedScalarFieldContainer[float]
    backend_used: str
    routing: RoutingMetadata
    def __init__(self, embedding: _Optional[_Iterable[float]] = ..., backend_used: _Optional[str] = ..., routing: _Optional[_Union[RoutingMetadata, _Mapping]] = ...) -> None: ...

class ListBackendsRequest(_message.Message):
    __slots__ = ("type_filter",)
    TYPE_FILTER_FIELD_NUMBER: _ClassVar[int]
    type_filter: str
    def __init__(self, type_filter: _Optional[str] = ...) -> None: ...

class ListBackendsResponse(_message.Message):
    __slots__ = ("backends",)
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    backends: _containers.RepeatedCompositeFieldContainer[BackendInfo]
    def __init__(self, backends: _Optional[_Iterable[_Union[BackendInfo, _Mapping]]] = ...) -> None: ...

class BackendInfo(_message.Message):
    __slots__ = ("id", "type", "name", "hardware", "status", "capabilities", "metrics")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    name: str
    hardware: str
    status: BackendStatus
    capabilities: BackendCapabilities
    metrics: BackendMetrics
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., hardware: _Optional[str] = ..., status: _Optional[_Union[BackendStatus, _Mapping]] = ..., capabilities: _Optional[_Union[BackendCapabilities, _Mapping]] = ..., metrics: _Optional[_Union[BackendMetrics, _Mapping]] = ...) -> None: ...

class BackendStatus(_message.Message):
    __slots__ = ("state", "message", "last_check_unix")
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_CHECK_UNIX_FIELD_NUMBER: _ClassVar[int]
    state: str
    message: str
    last_check_unix: int
    def __init__(self, state: _Optional[str] = ..., message: _Optional[str] = ..., last_check_unix: _Optional[int] = ...) -> None: ...

class BackendCapabilities(_message.Message):
    __slots__ = ("generate", "embed", "stream", "models", "max_context")
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    EMBED_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    generate: bool
    embed: bool
    stream: bool
    models: _containers.RepeatedScalarFieldContainer[str]
    max_context: int
    def __init__(self, generate: _Optional[bool] = ..., embed: _Optional[bool] = ..., stream: _Optional[bool] = ..., models: _Optional[_Iterable[str]] = ..., max_context: _Optional[int] = ...) -> None: ...

class BackendMetrics(_message.Message):
    __slots__ = ("avg_latency_ms", "requests_per_minute", "error_rate", "power_watts", "loaded_models")
    AVG_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    LOADED_MODELS_FIELD_NUMBER: _ClassVar[int]
    avg_latency_ms: int
    requests_per_minute: int
    error_rate: float
    power_watts: float
    loaded_models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, avg_latency_ms: _Optional[int] = ..., requests_per_minute: _Optional[int] = ..., error_rate: _Optional[float] = ..., power_watts: _Optional[float] = ..., loaded_models: _Optional[_Iterable[str]] = ...) -> None: ...

class HealthCheckRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthCheckResponse(_message.Message):
    __slots__ = ("status", "backend_health", "timestamp_unix")
    class BackendHealthEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_HEALTH_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_UNIX_FIELD_NUMBER: _ClassVar[int]
    status: str
    backend_health: _containers.ScalarMap[str, str]
    timestamp_unix: int
    def __init__(self, status: _Optional[str] = ..., backend_health: _Optional[_Mapping[str, str]] = ..., timestamp_unix: _Optional[int] = ...) -> None: ...

class ExecutePipelineRequest(_message.Message):
    __slots__ = ("pipeline_id", "input", "options", "annotations")
    class InputEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    input: _containers.ScalarMap[str, str]
    options: PipelineOptions
    annotations: JobAnnotations
    def __init__(self, pipeline_id: _Optional[str] = ..., input: _Optional[_Mapping[str, str]] = ..., options: _Optional[_Union[PipelineOptions, _Mapping]] = ..., annotations: _Optional[_Union[JobAnnotations, _Mapping]] = ...) -> None: ...

class PipelineOptions(_message.Message):
    __slots__ = ("enable_streaming", "preserve_context", "continue_on_error", "collect_metrics", "stage_timeout_ms")
    ENABLE_STREAMING_FIELD_NUMBER: _ClassVar[int]
    PRESERVE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    COLLECT_METRICS_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    enable_streaming: bool
    preserve_context: bool
    continue_on_error: bool
    collect_metrics: bool
    stage_timeout_ms: int
    def __init__(self, enable_streaming: _Optional[bool] = ..., preserve_context: _Optional[bool] = ..., continue_on_error: _Optional[bool] = ..., collect_metrics: _Optional[bool] = ..., stage_timeout_ms: _Optional[int] = ...) -> None: ...

class ExecutePipelineResponse(_message.Message):
    __slots__ = ("pipeline_id", "success", "final_output", "stage_results", "total_time_ms", "total_energy_wh", "error")
    class FinalOutputEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    FINAL_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STAGE_RESULTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_ENERGY_WH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    pipeline_id: str
    success: bool
    final_output: _containers.ScalarMap[str, str]
    stage_results: _containers.RepeatedCompositeFieldContainer[StageResult]
    total_time_ms: int
    total_energy_wh: float
    error: str
    def __init__(self, pipeline_id: _Optional[str] = ..., success: _Optional[bool] = ..., final_output: _Optional[_Mapping[str, str]] = ..., stage_results: _Optional[_Iterable[_Union[StageResult, _Mapping]]] = ..., total_time_ms: _Optional[int] = ..., total_energy_wh: _Optional[float] = ..., error: _Optional[str] = ...) -> None: ...

class StageResult(_message.Message):
    __slots__ = ("stage_id", "backend", "success", "output", "metadata", "error")
    STAGE_ID_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    stage_id: str
    backend: str
    success: bool
    output: str
    metadata: StageMetadata
    error: str
    def __init__(self, stage_id: _Optional[str] = ..., backend: _Optional[str] = ..., success: _Optional[bool] = ..., output: _Optional[str] = ..., metadata: _Optional[_Union[StageMetadata, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class StageMetadata(_message.Message):
    __slots__ = ("start_time_unix", "end_time_unix", "duration_ms", "model", "tokens_in", "tokens_out", "confidence", "temperature", "fan_speed", "forwarded", "forward_reason", "attempt_count")
    START_TIME_UNIX_FIELD_NUMBER: _ClassVar[int]
    END_TIME_UNIX_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_IN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_OUT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    FAN_SPEED_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    FORWARD_REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_COUNT_FIELD_NUMBER: _ClassVar[int]
    start_time_unix: int
    end_time_unix: int
    duration_ms: int
    model: str
    tokens_in: int
    tokens_out: int
    confidence: float
    temperature: float
    fan_speed: int
    forwarded: bool
    forward_reason: str
    attempt_count: int
    def __init__(self, start_time_unix: _Optional[int] = ..., end_time_unix: _Optional[int] = ..., duration_ms: _Optional[int] = ..., model: _Optional[str] = ..., tokens_in: _Optional[int] = ..., tokens_out: _Optional[int] = ..., confidence: _Optional[float] = ..., temperature: _Optional[float] = ..., fan_speed: _Optional[int] = ..., forwarded: _Optional[bool] = ..., forward_reason: _Optional[str] = ..., attempt_count: _Optional[int] = ...) -> None: ...

class PipelineStreamResponse(_message.Message):
    __slots__ = ("stage_id", "partial_output", "done", "stage_result", "final_result")
    STAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    STAGE_RESULT_FIELD_NUMBER: _ClassVar[int]
    FINAL_RESULT_FIELD_NUMBER: _ClassVar[int]
    stage_id: str
    partial_output: str
    done: bool
    stage_result: StageResult
    final_result: ExecutePipelineResponse
    def __init__(self, stage_id: _Optional[str] = ..., partial_output: _Optional[str] = ..., done: _Optional[bool] = ..., stage_result: _Optional[_Union[StageResult, _Mapping]] = ..., final_result: _Optional[_Union[ExecutePipelineResponse, _Mapping]] = ...) -> None: ...

"""The measures by name. A participant lists those it takes part in."""

HTTP = frozenset({"unary", "latency", "streams-100", "streams-400", "streams-2000", "memory", "start"})
TRANSLATED = frozenset({"translated-ollama-openai", "translated-openai-ollama"})
GRPC_ALONE = frozenset({"grpc-health"})
GRPC_THROUGH = frozenset({"grpc-unary", "grpc-stream"})
IN_PROCESS = frozenset({"decision"})
ALL = HTTP | TRANSLATED | GRPC_ALONE | GRPC_THROUGH | IN_PROCESS

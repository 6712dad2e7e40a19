"""What requests of this API are to Ollama, as far as it decides how their bodies are read when they are no good."""

from __future__ import annotations

from ollama_proxy.net.bodies.go_json import GoType

_STRING = GoType("string", "string")
_BOOL = GoType("bool", "bool")
_ANY = GoType("interface {}", "any")
_MAYBE_INT = GoType("int", "int", pointer=True)


def _request(name: str, *others: str, stream: bool = True) -> GoType:
    """A type with a model; `others` are left to the server, which has its own words for what does not fit there."""
    fields = {"model": _STRING, **dict.fromkeys(others, _ANY)}
    if "max_tokens" in fields:
        fields["max_tokens"] = _MAYBE_INT
    if stream:
        fields["stream"] = _BOOL
    return GoType(f"openai.{name}", "struct", fields=fields)


CHAT = _request(
    "ChatCompletionRequest",
    "messages",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "tools",
    "tool_choice",
    "response_format",
    "logprobs",
    "reasoning_effort",
)
COMPLETION = _request("CompletionRequest", "prompt", "suffix", "stream_options", "max_tokens", "n", "logprobs")
EMBED = _request("EmbedRequest", "input", "encoding_format", "dimensions", stream=False)
IMAGE = _request("ImageGenerationRequest", "prompt", stream=False)

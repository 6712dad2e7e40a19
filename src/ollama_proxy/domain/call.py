"""One request as it came in, and as every backend can understand it.

A `Call` always carries the few facts the decision needs. The whole typed request (`Generation`, `Embedding`) is
built only when an attempt has to translate; on the fast lane the body goes up as it came.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .annotations import NO_ANNOTATIONS, Annotations
from .answer import CacheNote
from .caller import ANYBODY, Caller


class Dialect(enum.Enum):
    """The protocol a client or a backend speaks."""

    COMPUTE = "compute"
    OLLAMA = "ollama"
    OPENAI = "openai"
    #: OpenAI's Responses API, whose requests and streams are unlike the rest of OpenAI's.
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"


class Operation(enum.Enum):
    """What is asked for.

    `COMPLETE` is text without a chat template on servers that know the difference. `PASS` is a request that only a
    backend of the same dialect can read: it goes up as it came, and is never translated.
    """

    GENERATE = "generate"
    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    SHOW = "show"
    COUNT = "count tokens"
    PASS = "pass on"


#: Those that ask about a model and let it write nothing.
COST_NOTHING = frozenset((Operation.SHOW, Operation.COUNT))


class Need(enum.Enum):
    """A capability a request cannot do without."""

    GENERATE = "generate"
    EMBED = "embed"
    IMAGES = "images"
    SUFFIX = "suffix"
    RAW_PROMPT = "raw prompt"
    TEMPLATE = "template"
    CONTEXT = "context tokens"
    SHOW = "model details"
    TOOLS = "tools"
    TOOL_CHOICE = "a forced tool call"
    THINKING = "thinking"
    FORMAT = "structured output"
    LOGPROBS = "log probabilities"
    CHOICES = "several choices"
    COMPLETION = "completion without a chat template"
    TOKEN_INPUT = "token ids as input"
    COUNT = "token counting"
    AUDIO = "audio"
    IMAGE_OUTPUT = "image generation"
    RERANK = "reranking"
    SPEECH = "speech output"
    AUDIO_TRANSLATION = "audio translation"
    IMAGE_VARIATION = "image variations"
    REMOTE_IMAGES = "images by address"
    DOCUMENTS = "documents"
    WEB_SEARCH = "web search by the server"
    SERVER_TOOLS = "tools of the server's own"
    #: Going on behind an answer that another backend has begun.
    CONTINUATION = "going on with a cut answer"
    #: Those of the Responses API, which nobody has who does not speak it.
    BUILT_IN_TOOLS = "built-in tools"


class ToolUse(msgspec.Struct, frozen=True):
    """A tool call in the history of a chat; `arguments` is JSON text of an object."""

    name: str
    arguments: str
    id: str = ""


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat. `images` are base64 texts without a data-URI prefix."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_uses: tuple[ToolUse, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampling options under Ollama's names; None means the model's own. `extra` holds what only some servers know."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    num_ctx: int | None = None
    extra: Mapping[str, Any] = {}


class Generation(msgspec.Struct, frozen=True):
    """A request for text in full. A prompt-style request has `messages` empty.

    `tools` are OpenAI-shaped (`{"type": "function", "function": {...}}`), and so is `tool_choice`: None, `"auto"`,
    `"none"`, `"required"` or `{"type": "function", "function": {"name": ...}}`. `format` is None, `"json"` or a JSON
    schema; `think` is None, a bool, or an effort (`"low"`, `"medium"`, `"high"`, `"max"`). `effort` is the client's own
    word where `think` is only the nearest to it; `limits_completion` says that it wrote `num_predict` as OpenAI's
    `max_completion_tokens`.
    """

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: tuple[str, ...] = ()
    context: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()
    sampling: Sampling = Sampling()
    tools: tuple[Any, ...] = ()
    tool_choice: Any = None
    parallel_tools: bool | None = None
    format: Any = None
    think: bool | str | None = None
    keep_alive: Any = None
    logprobs: bool = False
    top_logprobs: int = 0
    effort: str = ""
    limits_completion: bool = False


class Embedding(msgspec.Struct, frozen=True):
    """A request for vectors, one for each input."""

    inputs: tuple[str, ...]
    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: Any = None
    options: Mapping[str, Any] = {}


class RawHead:
    """Method, path with query, and the headers worth passing on.

    Compared by identity, so that a backend finds what it made of one at once: whoever reads requests keeps one object
    for equal heads.
    """

    __slots__ = ("headers", "method", "path")

    def __init__(self, method: bytes, path: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.method = method
        self.path = path
        self.headers = headers


class RawRequest(msgspec.Struct, frozen=True):
    """The request's bytes for a backend of the same dialect: the body as it came, and what is passed on of its head."""

    head: RawHead
    body: bytes


class Continued(msgspec.Struct, frozen=True):
    """What another backend has already answered, as far as the client got it; `tokens` of text and thinking.

    `raw` is the whole request where it was answered as it came: servers of its dialect are to be told all that is in
    it. `untold` says why those that can only be told the typed form must not go on, as a clause; "" where they may.
    """

    text: str
    thinking: str = ""
    tokens: int = 0
    raw: RawRequest | None = None
    untold: str = ""


class Call(msgspec.Struct):
    """One request. `arrived_s` is monotonic; `prompt_bytes` and `max_tokens` (0 = unlimited) feed the prediction."""

    request_id: str
    dialect: Dialect
    operation: Operation
    model: str
    stream: bool
    arrived_s: float
    typed: Callable[[], Generation | Embedding]
    annotations: Annotations = NO_ANNOTATIONS
    needs: frozenset[Need] = frozenset((Need.GENERATE,))
    prompt_bytes: int = 0
    max_tokens: int = 0
    raw: RawRequest | None = None
    #: What a backend should be able to do, though the request makes sense without: it is dropped when nobody can.
    wants: frozenset[Need] = frozenset()
    #: The raw request names the model; else it is written into it.
    named: bool = True
    #: The name that answers must carry although the backend was asked for another; "" when it echoes the right one.
    echo: str = ""
    #: The raw request asks for something that a backend speaking this dialect second-hand would silently drop.
    raw_needs_native: bool = False
    #: JSON members for the raw body, without braces: they say again, for servers that speak this dialect second-hand,
    #: what those would drop in silence.
    second_hand: bytes = b""
    way_in: str = ""
    caller: Caller = ANYBODY
    #: It asks for the rest of an answer that broke off.
    continued: Continued | None = None
    #: The client has the head of a stream that broke off before its first token: the answer goes to it as events.
    begun: bool = False
    #: It has a place among those that its caller may have under way at once.
    counted: bool = False
    #: What the cache does for it; None for nothing.
    cache: CacheNote | None = None

"""What a pipeline is made of, as its file says it. Texts named in the comments as templates have places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, parse_annotations
from ollama_proxy.pipelines.condition import Condition

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]
Most = Annotated[int, Meta(ge=1, le=100)]
#: Where a branch leads that leads out.
END = "end"


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stage or a run may take; 0 is no limit."""

    joules: Annotated[float, Meta(ge=0)] = 0.0
    tokens: Annotated[int, Meta(ge=0)] = 0


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model writes; left out, its own."""

    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1)] | None = None
    seed: int | None = None
    stop: tuple[Text, ...] = ()
    #: `json`, or a schema.
    format: Literal["json"] | dict[str, Any] | None = None


class _Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    id: Name
    #: As in the JSON body of a request: `target`, `max_power_watts` and the like.
    annotations: Mapping[str, Any] = {}
    budget: Budget = Budget()
    timeout_seconds: Seconds = 0.0

    def read_annotations(self) -> Annotations:
        """Raises `ProxyError` that names the one which cannot be read."""
        return read_annotations(self.annotations)


def read_annotations(pairs: Mapping[str, Any]) -> Annotations:
    """Annotations of the file. Raises `ProxyError`."""
    if not pairs:
        return NO_ANNOTATIONS
    custom = pairs.get("custom")
    flat = [(key, value) for key, value in pairs.items() if not isinstance(value, dict)]
    flat += [(f"custom.{key}", value) for key, value in custom.items()] if isinstance(custom, dict) else []
    return parse_annotations(flat)


class Generate(_Base, frozen=True, kw_only=True, tag="generate"):
    """A model writes. `prompt` and `system` are templates; the default model where none is named."""

    prompt: Text
    system: str = ""
    model: str = ""
    options: Options = Options()


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One try of an escalation."""

    model: Text
    annotations: Mapping[str, Any] = {}
    options: Options | None = None


class Escalate(_Base, frozen=True, kw_only=True, tag="escalate"):
    """Models in turn, the cheapest first, until an answer meets `accept`; `otherwise` is what becomes of the last
    answer when it does not."""

    prompt: Text
    steps: Annotated[tuple[Step, ...], Meta(min_length=2, max_length=8)]
    accept: Condition
    system: str = ""
    options: Options = Options()
    otherwise: Literal["fail", "keep"] = "fail"


class Embed(_Base, frozen=True, kw_only=True, tag="embed"):
    """The vector of a template's text, as a JSON array."""

    text: Text
    model: str = ""


class Retrieve(_Base, frozen=True, kw_only=True, tag="retrieve"):
    """Passages of a vector store, numbered; `query` is a template."""

    store: Text
    query: Text
    most: Most = 8
    filters: Mapping[str, Any] | None = None
    least_score: float = 0.0


class Rerank(_Base, frozen=True, kw_only=True, tag="rerank"):
    """The passages of an earlier stage, sorted by a model that reranks."""

    of: Name
    query: Text
    model: Text
    most: Most = 4


class Cache(_Base, frozen=True, kw_only=True, tag="cache"):
    """What stage `keep` wrote last time for the same key, of the same client. If there is such a text it is this
    stage's and that one's, and the run goes on at `then`; if not, what `keep` writes this time is kept."""

    key: Text
    keep: Name
    then: Name = END
    ttl_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] = 3600.0


class Branch(_Base, frozen=True, kw_only=True, tag="branch"):
    """Go on at `then` if the condition holds, else at `otherwise`; "" is the next stage."""

    when: Condition
    then: str = ""
    otherwise: str = ""


Stage = Generate | Escalate | Embed | Retrieve | Rerank | Cache | Branch


class Pipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain of stages. `outputs` are templates by name; without any, `output` is the last stage's text."""

    id: Name
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=32)]
    inputs: tuple[Name, ...] = ()
    description: str = ""
    outputs: Mapping[Name, Text] = {}
    budget: Budget = Budget()
    timeout_seconds: Seconds = 0.0


class PipelineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    pipelines: tuple[Pipeline, ...]

"""Which bodies the typed form tells in full."""

from typing import Any

import msgspec
import pytest

from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest
from ollama_proxy.net.bodies.members import find_loss, find_uncarried, find_untold


def make_call(dialect: Dialect, body: bytes, **fields: Any) -> Call:
    raw = RawRequest(RawHead(b"POST", b"/"), body)
    return Call("r", dialect, fields.pop("operation", Operation.CHAT), "m", False, 0.0, Generation, raw=raw, **fields)


def lose(dialect: Dialect, body: bytes, **fields: Any) -> str:
    return find_loss(make_call(dialect, body, **fields))


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
FINE = {"type": "image_url", "image_url": {**PICTURE["image_url"], "detail": "high"}}  # type: ignore[dict-item]
TEXT = {"type": "text", "text": "x"}
SCHEMA = {"name": "n", "schema": {"type": "object"}}


def of_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def in_form(**more: Any) -> dict[str, Any]:
    return {"messages": [], "response_format": {"type": "json_schema", "json_schema": {**SCHEMA, **more}}}


SAID = [
    (Dialect.OPENAI, of_parts(TEXT, PICTURE, PICTURE)),
    (Dialect.OPENAI, in_form(strict=False)),
    (Dialect.OPENAI, {"messages": [], "response_format": {"type": "json_object"}}),
    (Dialect.RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
    (Dialect.RESPONSES, {"input": "x", "text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "medium"}}),
    (Dialect.ANTHROPIC, {"messages": [], "max_tokens": 5, "system": [TEXT]}),
    (Dialect.OLLAMA, {"messages": [{"role": "user", "content": "x", "images": []}], "options": {"mirostat": 1}}),
    (Dialect.OLLAMA, {"prompt": "x", "keep_alive": "5m", "truncate": True, "format": {"type": "object"}}),
    (Dialect.OPENAI, {"messages": [], "reasoning_effort": "minimal", "max_completion_tokens": 5, "max_tokens": None}),
    (Dialect.RESPONSES, {"input": "x", "reasoning": {"effort": "xhigh", "summary": None}}),
    (Dialect.OPENAI, {"messages": [{"role": "user", "content": "x", "name": "n"}], "n": 1, "user": "u", "stop": None}),
    (Dialect.OPENAI, {"prompt": "x", "best_of": 1, "echo": False, "logit_bias": {}, "service_tier": "auto"}),
    (Dialect.ANTHROPIC, {"messages": [], "max_tokens": 5, "thinking": {"type": "disabled"}, "metadata": {}}),
    (Dialect.RESPONSES, {"input": "x", "include": [], "truncation": "disabled", "store": False}),
]
LOST = [
    (Dialect.OPENAI, of_parts(TEXT, TEXT), "messages.content: several texts"),
    (Dialect.OPENAI, of_parts(PICTURE, TEXT), "messages.content: picture before text"),
    (Dialect.OPENAI, of_parts(TEXT, FINE), "messages.content.detail"),
    (Dialect.OPENAI, {"messages": [{"role": "developer", "content": "x"}]}, "messages.role: developer"),
    (Dialect.OPENAI, {"messages": [{"role": "assistant", "content": "x", "refusal": "no"}]}, "messages.refusal"),
    (Dialect.OPENAI, in_form(strict=True), "response_format.strict"),
    (Dialect.OPENAI, in_form(description="x"), "response_format.description"),
    (Dialect.RESPONSES, {"input": "x", "text": {"verbosity": "low"}}, "text.verbosity"),
    (Dialect.RESPONSES, {"input": "x", "text": {"format": {**SCHEMA, "strict": True}}}, "text.strict"),
    (Dialect.ANTHROPIC, {"messages": [], "max_tokens": 5, "system": [TEXT, TEXT]}, "system: several texts"),
    (Dialect.OLLAMA, {"prompt": "x", "truncate": False}, "truncate"),
    (Dialect.OPENAI, {"messages": [], "n": 2}, "n"),
    (Dialect.OPENAI, {"messages": [], "logit_bias": {"1": 5}}, "logit_bias"),
    (Dialect.OPENAI, {"messages": [{"role": "assistant", "content": "x", "prefix": True}]}, "prefix"),
    (Dialect.OPENAI, {"messages": [], "Temperature": 0}, "Temperature"),
    (Dialect.ANTHROPIC, {"messages": [], "thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    (Dialect.RESPONSES, {"input": "x", "truncation": "auto"}, "truncation"),
    (Dialect.RESPONSES, {"input": "x", "reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
    (Dialect.OPENAI, {"messages": [], "reasoning": {"max_tokens": 10}}, "reasoning.max_tokens"),
    (Dialect.OPENAI, {"messages": [], "reasoning": {"effort": "low"}}, "reasoning.effort"),
    (Dialect.OPENAI, {"messages": [], "service_tier": "flex"}, "service_tier"),
    (Dialect.OPENAI, {"messages": [], "max_tokens": 5, "max_completion_tokens": 7}, "max_tokens"),
    (Dialect.OPENAI, {"messages": [], "max_completion_tokens": 0}, "max_completion_tokens"),
    (Dialect.RESPONSES, {"input": "x", "include": ["message.output_text.logprobs"]}, "include"),
]


@pytest.mark.parametrize(("dialect", "body"), SAID)
def test_nothing_is_lost(dialect: Dialect, body: dict[str, Any]) -> None:
    assert lose(dialect, msgspec.json.encode(body)) == ""


@pytest.mark.parametrize(("dialect", "body", "member"), LOST)
def test_the_member_is_named(dialect: Dialect, body: dict[str, Any], member: str) -> None:
    assert lose(dialect, msgspec.json.encode(body)) == f"only its server can read the member {member!r}"


def test_needs_that_only_a_server_has() -> None:
    assert "several choices" in lose(Dialect.OPENAI, b"{}", wants=frozenset({Need.CHOICES}))
    assert "documents" in lose(Dialect.ANTHROPIC, b"{}", needs=frozenset({Need.GENERATE, Need.DOCUMENTS}))


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"messages": [1]}', b'{"messages": {}}', b'{"a": ' * 3000])
def test_what_cannot_be_read_goes_past(body: bytes) -> None:
    assert lose(Dialect.OPENAI, body)


GRAMMARS = "grammar json_schema guided_json guided_regex guided_choice guided_grammar structured_outputs regex ebnf"
SAID_AGAIN = [
    {"logit_bias": {"1": 5}, "min_tokens": 4, "stop_token_ids": [1], "ignore_eos": True, "bad_words": ["x"]},
    {"repeat_penalty": 1.2, "dry_multiplier": 0.8, "chat_template_kwargs": {}, "temperature": 0, "messages": []},
]


@pytest.mark.parametrize(
    "member", [*GRAMMARS.split(), "lora", "functions", "best_of", "echo", "n_predict", "unheard_of"]
)
def test_what_may_mean_something_else_in_mid_answer_is_named(member: str) -> None:
    call = make_call(Dialect.OPENAI, msgspec.json.encode({"messages": [], member: [{"a": 1}]}))
    assert find_uncarried(call) == find_untold(call) == f"{member!r} cannot be carried over"


@pytest.mark.parametrize("members", SAID_AGAIN)
def test_what_only_has_to_be_said_again_is_no_obstacle_for_who_reads_the_same_dialect(members: dict[str, Any]) -> None:
    call = make_call(Dialect.OPENAI, msgspec.json.encode(members))
    assert find_uncarried(call) == ""
    assert find_untold(call) == f"{next(iter(members))!r} cannot be carried over"


def test_what_an_answer_can_go_on_without_is_no_obstacle() -> None:
    body = {"input": "x", "service_tier": "flex", "reasoning": {"effort": "low", "summary": "auto"}}
    call = make_call(Dialect.RESPONSES, msgspec.json.encode(body))
    assert find_loss(call)
    assert find_untold(call) == ""


def test_turns_are_said_again_as_they_came() -> None:
    call = make_call(Dialect.OPENAI, msgspec.json.encode(of_parts(TEXT, TEXT)))
    assert find_uncarried(call) == ""
    assert find_untold(call)


def test_a_prompt_may_be_said_again_where_there_is_one() -> None:
    body = b'{"prompt":"x","echo":true}'
    assert find_uncarried(make_call(Dialect.OPENAI, body, operation=Operation.COMPLETE)) == ""


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ({"output_format": {"type": "json_schema"}}, "output_format"),
        ({"system": [TEXT, TEXT], "thinking": {"type": "enabled", "budget_tokens": 1024}}, ""),
    ],
)
def test_of_other_dialects_only_the_typed_form_is_carried(member: dict[str, Any], told: str) -> None:
    call = make_call(Dialect.ANTHROPIC, msgspec.json.encode({"messages": [], "max_tokens": 5, **member}))
    assert find_uncarried(call) == find_untold(call) == (f"{told!r} cannot be carried over" if told else "")


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.OLLAMA])
def test_what_cannot_be_read_is_not_carried(dialect: Dialect) -> None:
    assert find_uncarried(make_call(dialect, b"[]"))
    assert "documents" in find_untold(make_call(dialect, b"{}", needs=frozenset({Need.DOCUMENTS})))

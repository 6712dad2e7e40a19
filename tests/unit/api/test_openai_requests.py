"""What is read of OpenAI's requests: needs and wants, what is said again for Ollama, and how they are refused."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from ollama_proxy.api.openai.errors import missing_model, write_error
from ollama_proxy.api.openai.passing import read_passed
from ollama_proxy.api.openai.requests import read_completion, read_embedding
from ollama_proxy.domain.call import Call, Generation, Need, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.lenient_json import add_members
from ollama_proxy.net.bodies.multipart import find_field, with_field
from ollama_proxy.net.http1.exchange import Exchange, ExchangeOwner, Headers
from ollama_proxy.net.http1.head import RequestHead
from ollama_proxy.net.lanes.pass_lane import passed_body

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT, COMPLETE = b"/v1/chat/completions", b"/v1/completions"
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nmodel\r\n--x\r\n'
FORM += b'content-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n'


def make_exchange(path: bytes, body: bytes, fields: Headers = ()) -> Exchange:
    """A request as handlers get it, on no connection."""
    head = RequestHead((b"POST", path, path, b"", False), fields, dict(fields))
    exchange = Exchange(cast(ExchangeOwner, None), head, "")
    exchange.body = body
    return exchange


def chat(**members: Any) -> Call:
    body = json.dumps({"model": "m", "messages": MESSAGES, **members}).encode()
    return read_completion(make_exchange(CHAT, body), Operation.CHAT, "r", 0.0)[0]


def complete(**members: Any) -> Call:
    body = json.dumps({"model": "m", **members}).encode()
    return read_completion(make_exchange(COMPLETE, body), Operation.COMPLETE, "r", 0.0)[0]


@pytest.mark.parametrize(
    ("members", "needs"),
    [
        ({}, set()),
        ({"tools": [{"type": "function"}]}, {Need.TOOLS}),
        ({"tools": []}, set()),
        ({"tools": None, "logprobs": None, "response_format": None, "n": None}, set()),
        ({"response_format": {"type": "json_object"}}, {Need.FORMAT}),
        ({"response_format": {"type": "text"}}, set()),
        ({"logprobs": True}, {Need.LOGPROBS}),
        ({"logprobs": False}, set()),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]}]}, {Need.IMAGES}),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, {Need.AUDIO}),
        ({"messages": [{"role": "user", "content": 'say "image_url" and "input_audio"'}]}, set()),
    ],
)
def test_what_a_chat_needs(members: dict[str, Any], needs: set[Need]) -> None:
    assert chat(**members).needs == {Need.GENERATE, *needs}


@pytest.mark.parametrize(
    ("members", "wants"),
    [
        ({}, set()),
        ({"n": 1, "tool_choice": "auto", "reasoning_effort": "none"}, set()),
        ({"n": 2}, {Need.CHOICES}),
        ({"tool_choice": "required"}, {Need.TOOL_CHOICE}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {Need.TOOL_CHOICE}),
        ({"reasoning_effort": "low"}, {Need.THINKING}),
    ],
)
def test_what_a_chat_merely_wants(members: dict[str, Any], wants: set[Need]) -> None:
    assert chat(**members).wants == wants


def test_what_completions_need_and_want() -> None:
    basis = {Need.GENERATE, Need.COMPLETION}
    assert complete(prompt="a").needs == basis
    assert complete(prompt="a", suffix="b").needs == basis | {Need.SUFFIX}
    assert complete(prompt="a", logprobs=0).needs == basis | {Need.LOGPROBS}
    assert complete(prompt=["a", "b"]).wants == {Need.TOKEN_INPUT}
    assert complete(prompt="a").wants == set()


@pytest.mark.parametrize(("given", "tokens"), [("a", 0), (["a"], 0), ([1, 2], 1), ([[1], [2]], 1)])
def test_what_embeddings_want(given: Any, tokens: int) -> None:
    body = json.dumps({"model": "m", "input": given}).encode()
    call = read_embedding(make_exchange(b"/v1/embeddings", body), "r", 0.0)[0]
    assert call.wants == ({Need.TOKEN_INPUT} if tokens else set())


@pytest.mark.parametrize(
    ("members", "extra"),
    [
        ({"max_completion_tokens": 4}, b'"max_tokens":4'),
        ({"max_completion_tokens": 4, "max_tokens": None}, b'"max_tokens":4'),
        ({"max_completion_tokens": 4, "max_tokens": 9}, b""),
        ({"max_completion_tokens": "x"}, b""),
        ({"tools": [{}], "tool_choice": "none"}, b'"tools":null'),
        ({"tools": [{}], "tool_choice": "none", "max_completion_tokens": 1}, b'"max_tokens":1,"tools":null'),
    ],
)
def test_what_is_said_again_for_ollama(members: dict[str, Any], extra: bytes) -> None:
    call = chat(**members)
    assert call.second_hand == extra
    assert call.raw is not None
    if extra:
        added = json.loads(add_members(call.raw.body, extra))
        assert {**json.loads(call.raw.body), **json.loads(b"{%b}" % extra)} == added


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b" ", "EOF"),
        (b'{"model":', "unexpected EOF"),
        (b"[1]", "json: cannot unmarshal array into Go value of type openai.ChatCompletionRequest"),
        (
            b'{"model":"m","max_tokens":1e400}',
            "json: cannot unmarshal number 1e400 into Go struct field ChatCompletionRequest.max_tokens of type int",
        ),
        (
            b'{"model":5}',
            "json: cannot unmarshal number into Go struct field ChatCompletionRequest.model of type string",
        ),
        (
            b'{"model":"m","stream":1}',
            "json: cannot unmarshal number into Go struct field ChatCompletionRequest.stream of type bool",
        ),
        (b"null", "[] is too short - 'messages'"),
        (b'{"model":"m","messages":[]}', "[] is too short - 'messages'"),
        (b'{"model":"m","messages":null}', "[] is too short - 'messages'"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
    ],
)
def test_unreadable_chats_are_refused_in_gos_words(body: bytes, text: str) -> None:
    with pytest.raises(ProxyError) as refused:
        read_completion(make_exchange(CHAT, body), Operation.CHAT, "r", 0.0)
    status, content_type, answer = write_error(refused.value)
    assert (status, content_type) == (400, b"application/json; charset=utf-8")
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    assert answer == json.dumps({"error": error}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"MODEL":"m","Messages":[1]} and more',
        b'{"model":"m","messages":[1]}}',
        b'{"model":"m","messages":["\xff"]}x',
    ],
)
def test_what_go_reads_is_read_and_tidied(body: bytes) -> None:
    call, _ = read_completion(make_exchange(CHAT, body), Operation.CHAT, "r", 0.0)
    assert call.model == "m"
    assert call.raw is not None
    assert call.raw.body.startswith(b'{"model":"m","messages":[')
    assert call.raw.body.endswith(b"]}")


def test_wrong_types_elsewhere_are_the_servers_business() -> None:
    call = chat(temperature="hot", max_tokens="many", stream_options=5, metadata="x", n="two", tool_choice=5)
    assert call.raw is not None
    assert b'"hot"' in call.raw.body


@pytest.mark.parametrize("given", [None, []])
def test_embeddings_of_nothing_are_refused(given: Any) -> None:
    body = json.dumps({"model": "m", "input": given}).encode()
    with pytest.raises(ProxyError, match="invalid input"):
        read_embedding(make_exchange(b"/v1/embeddings", body), "r", 0.0)


def test_missing_models_have_the_sentence_of_their_route() -> None:
    assert missing_model("a").message == "model 'a' not found"
    assert missing_model("a", embed=True).message == 'model "a" not found, try pulling it first'
    assert missing_model("").message == "model '' not found"
    assert missing_model(" a ").message == "model ' a ' not found"


@pytest.mark.parametrize("name", ["a b!", "a:b:c", "a:", "a//b", "a/b/c/d/e", "http://h/x", "a:cloud:local"])
def test_names_that_ollama_takes_for_none_are_bad_requests(name: str) -> None:
    assert write_error(missing_model(name))[:2] == (400, b"application/json")


@pytest.mark.parametrize("body", [b'{"error": {"message": "no"}}', b' {"error":{"message":"no","code":400}}'])
def test_refusals_in_openais_shape_pass_as_they_came(body: bytes) -> None:
    error = ProxyError(ErrorKind.BACKEND_REFUSED, "no", status=422, body=body, content_type=b"application/json")
    assert write_error(error) == (422, b"application/json", body)


def test_other_refusals_get_openais_shape() -> None:
    error = ProxyError(ErrorKind.BACKEND_REFUSED, "no", status=400, body=b'{"detail":"no"}')
    assert json.loads(write_error(error)[2])["error"]["message"] == "no"


def test_our_own_errors_have_codes() -> None:
    assert json.loads(write_error(ProxyError(ErrorKind.NO_HEALTHY_BACKEND, "x"))[2])["error"]["code"]


# -- the typed form --------------------------------------------------------------


def typed(**members: Any) -> Generation:
    return cast(Generation, chat(**members).typed())


def test_typed_form_has_what_can_be_translated() -> None:
    request = typed(
        parallel_tool_calls=False, reasoning_effort="xhigh", logprobs=True, top_logprobs=3, max_completion_tokens=5
    )
    assert (request.parallel_tools, request.think, request.sampling.num_predict) == (False, "max", 5)
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert (request.effort, request.limits_completion) == ("xhigh", True)
    assert (typed(max_tokens=5, reasoning_effort="low").effort, typed(max_tokens=5).limits_completion) == ("", False)
    assert typed(reasoning={"effort": "none"}).think is False
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
    assert len({repr(typed(reasoning_effort=effort)) for effort in efforts}) == len(efforts)
    turns = [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [{"function": {"name": "f"}}]},
    ]
    system, assistant = typed(messages=turns).messages
    assert (system.role, system.content) == ("system", "ab")
    assert (assistant.thinking, assistant.tool_uses[0].arguments) == ("hm", "{}")


def test_completions_count_log_probabilities() -> None:
    request = cast(Generation, complete(prompt=["a"], logprobs=2).typed())
    assert (request.prompt, request.logprobs, request.top_logprobs) == ("a", True, 2)


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        {"response_format": {"type": "grammar"}},
        {"temperature": "hot"},
    ],
)
def test_what_cannot_be_translated_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ProxyError):
        typed(**members)


CUSTOM = {"type": "custom", "custom": {"name": "c"}}
CUSTOM_CALL = {"id": "1", "type": "custom", "custom": {"name": "c", "input": "x"}}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}, CUSTOM]}, 'tools: .*"custom"'),
        ({"tool_choice": CUSTOM}, 'tool_choice: .*"custom"'),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, 'tool_choice: .*"allowed_tools"'),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [CUSTOM_CALL]}]}, 'tool_calls: .*"custom"'),
    ],
)
def test_tools_that_are_no_functions_are_not_dropped_in_silence(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ProxyError, match=message) as caught:
        typed(**members)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_functions_and_what_has_no_type_are_offered() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"function": {"name": "g"}}]
    choice = {"type": "function", "function": {"name": "f"}}
    assert typed(tools=tools).tools == tuple(tools)
    assert [typed(tool_choice=one).tool_choice for one in (None, "required", choice)] == [None, "required", choice]


# -- requests that are passed on --------------------------------------------------


def passed(path: bytes, body: bytes, content_type: bytes = b"application/json") -> Call:
    return read_passed(make_exchange(path, body, [(b"content-type", content_type)]), "r", 0.0)


def test_a_form_tells_its_model_and_may_get_another() -> None:
    call = passed(b"/v1/audio/transcriptions", FORM, b'multipart/form-data; boundary="x"')
    assert (call.model, call.needs, call.operation) == ("whisper", {Need.AUDIO}, Operation.PASS)
    assert passed_body(call, "whisper") == FORM
    assert passed_body(call, "other") == FORM.replace(b"whisper", b"other")


def test_a_form_has_one_type() -> None:
    types = [(b"content-type", b"multipart/form-data; boundary=%b" % boundary) for boundary in (b"x", b"y")]
    with pytest.raises(ProxyError, match="Content-Type"):
        read_passed(make_exchange(b"/v1/audio/transcriptions", FORM, types), "r", 0.0)


def test_a_form_without_a_model_can_get_one() -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n'
    assert find_field(form, b"x", b"model") is None
    given = with_field(form, b"x", b"model", b"m")
    place = find_field(given, b"x", b"model")
    assert place is not None
    assert given[slice(*place)] == b"m"
    assert find_field(given, b"x", b"file") is not None


@pytest.mark.parametrize("body", [b"", b"--x", b"--x--\r\n", b"--x\r\nab\r\n\r\n", b"x" * 99])
def test_broken_forms_have_no_fields(body: bytes) -> None:
    assert find_field(body, b"x", b"model") is None


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (b"application/json", "request Content-Type isn't multipart/form-data"),
        (b"multipart/form-data", "no multipart boundary param in Content-Type"),
        (b"multipart/form-data; boundary*%b=a" % (b"9" * 5000), "request Content-Type isn't multipart/form-data"),
        (b"multipart/form-data; boundary*=\0''a", "request Content-Type isn't multipart/form-data"),
        (b"multipart/form-data; boundary*=a; boundary*0*=b", "request Content-Type isn't multipart/form-data"),
    ],
)
def test_what_is_no_form_is_refused_in_gos_words(content_type: bytes, text: str) -> None:
    with pytest.raises(ProxyError) as refused:
        passed(b"/v1/audio/transcriptions", b"{}", content_type)
    assert refused.value.message == f"failed to parse multipart form: {text}"


def test_every_path_for_reranking_goes_up_on_one() -> None:
    for path in (b"/rerank", b"/v1/rerank", b"/v2/rerank"):
        call = passed(path, b'{"model":"r","query":"q","documents":[]}')
        assert call.needs == {Need.RERANK}
        assert call.raw is not None
        assert call.raw.head.path == b"/v1/rerank"

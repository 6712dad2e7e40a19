"""Bodies that are wrong in every way: the proxy and the real Ollama say the same of each, byte for byte."""

from __future__ import annotations

import http.client
import random

import pytest

from ollama_proxy.api.ollama.go_types import CHAT, EMBED, EMBEDDINGS, GENERATE, SHOW
from tests.support.ollama import RealOllama
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.ollama]

ROUTES = {
    "/api/generate": GENERATE,
    "/api/chat": CHAT,
    "/api/embed": EMBED,
    "/api/embeddings": EMBEDDINGS,
    "/api/show": SHOW,
}
MODELS = (b'"nope"', b'"nope"', b'"nope:x"', b'""', b'" "', b"null", b'"a b"', b"5", b'"a:local:cloud"', b'"\\ud800"')
VALUES = (
    *(b'"x"', b"5", b"1.5", b"-1", b"1e400", b"true", b"null", b"[]", b"{}", b"[1]", b'["a"]', b'{"a":1}', b"[null]"),
    *(b'"10"', b'"5m"', b'"1h30x"', b'"high"', b'"lots"', b'"\\ud800"', b'"\xff"', b'["QUJ"]', b'["QQ=="]', b"[300]"),
    *(
        b"3000000000",
        b'{"num_ctx":1e999}',
        b"01",
        b"-",
        b"1.",
        b"1e",
        b"tru",
        b'"\\x"',
        b'"\\u12g4"',
        b'"a\nb"',
        b"NaN",
    ),
    *(b'[{"role":1}]', b'[{"content":["a"]}]', b'[{"images":["!"]}]', b'[{"function":{"name":1}}]', b'[{"type":[]}]'),
    *(b'[{"tool_calls":[{"function":{"arguments":"x"}}]}]', b'[{"function":{"parameters":{"properties":{"a":5}}}}]'),
)
INSERTED = b"{}[]\":,\\ \n\t0aeu-.+\x00\x1f\x7f\x80\xe9\xff'"


def make_body(random_: random.Random, fields: list[str]) -> bytes:
    """Members of any kind in any order, some of them under another spelling; then a few bytes changed."""
    spellings = (b"model", b"MODEL", b"m\\u006fdel")
    named = random_.choice((1, 1, 2))
    members = [b'"%b":%b' % (random_.choice(spellings), random_.choice(MODELS)) for _ in range(named)]
    for _ in range(random_.randint(0, 4)):
        name = random_.choice(fields).encode()
        members.append(b'"%b": %b' % (name.upper() if random_.random() < 0.1 else name, random_.choice(VALUES)))
    random_.shuffle(members)
    body = bytearray(b"{%b}" % b", ".join(members))
    for _ in range(random_.choice((0, 0, 0, 1, 2))):
        at = random_.randrange(len(body))
        body[at : at + random_.randint(0, 1)] = bytes([random_.choice(INSERTED)] * random_.randint(0, 1))
    return bytes(body[: random_.randrange(len(body))]) if random_.random() < 0.1 else bytes(body)


def test_wrong_bodies(ollamas: RealOllama, ollama_proxy_process: ProxyProcess) -> None:
    random_ = random.Random(24)
    ends = [
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        for url in (ollamas.endpoints[0], ollama_proxy_process.url)
    ]
    wrong = []
    for _ in range(700):
        path = random_.choice(list(ROUTES))
        body = make_body(random_, list(ROUTES[path].fields))
        answers = []
        for end in ends:
            end.request("POST", path, body)
            answer = end.getresponse()
            answers.append((answer.status, answer.headers["Content-Type"], answer.read()))
        assert answers[0][0] >= 400, (path, body)
        if answers[0] != answers[1]:
            wrong.append(f"{path} {body!r}\n  {answers[0]}\n  {answers[1]}")
    for end in ends:
        end.close()
    assert not wrong, "\n".join(wrong)

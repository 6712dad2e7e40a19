"""Secrets and prompts that are planted wherever one may stand, and looked for wherever one may come out."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.config.load import load_config
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"
#: Where each was planted is in its name, so that a find tells where it leaked from.
ENV_KEY, FILE_KEY, CLOUD_KEY = "canary-env-key-0123456789", "canary-file-key-0123456789", "canary-cloud-key-0123456789"
STRANGER, COOKIE, QUERY = "canary-stranger-key-0123456789", "canary-cookie", "canary-query"
PROMPT, SYSTEM, TOOL = "canary-prompt", "canary-system", "canary-tool"
BODY, HEADER = "canary-broken-body", "canary-other-header"


class Planted:
    """A proxy with canaries in its configuration."""

    def __init__(self, work: Path, lab: LabProcess) -> None:
        self.folder = work / "canaries"
        self.folder.mkdir()
        (self.folder / "key").write_text(FILE_KEY)
        keys = {
            "by-env": {"key_env": "CANARY_KEY", "permissions": ["infer", "models", "admin"]},
            "by-file": {"key_file": str(self.folder / "key"), "requests_per_minute": 3},
        }
        auth = {"enabled": True, "api_keys": keys, "audit_file": str(self.folder / "audit")}
        self.environ = {"CANARY_KEY": ENV_KEY, "CANARY_CLOUD": CLOUD_KEY}
        self.proxy = ProxyProcess(
            work,
            lab.endpoints,
            changes={
                "server": {"auth": auth},
                "energy": {"ledger_path": str(self.folder / "ledger")},
                "learning": {"path": str(self.folder / "learned")},
                "routing": {"record_file": str(self.folder / "decisions")},
                "monitoring": {"log_level": "debug"},
            },
            speed=lab.speed,
        )
        cloud = {"id": "cloud", "type": "openai", "endpoint": lab.url("cpu"), "api_key_env": "CANARY_CLOUD"}
        config = yaml.safe_load(self.proxy.config_path.read_text())
        config["backends"].append(cloud)
        self.proxy.config_path.write_text(json.dumps(config))


@pytest.fixture
def planted(work: Path, lab: LabProcess) -> Iterator[Planted]:
    found = Planted(work, lab)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environ.items():
            patch.setenv(name, value)
        with found.proxy:
            yield found


def test_no_canary_comes_out_anywhere(planted: Planted) -> None:
    proxy = planted.proxy
    answers = list(sing(proxy))
    assert {status for status, _ in answers} >= {200, 400, 401, 403, 404, 429}
    wait_until(lambda: (planted.folder / "ledger").exists() and proxy.log_lines('"logger":"request"'), "the books")
    pages = [fetch(proxy, path) for path in PAGES]
    told = [run(planted, *words) for words in (("check", str(proxy.config_path)), ("doctor",), ("keys", "list"))]
    config = load_config(proxy.config_path, os.environ)
    proxy.stop()
    files = {one.name: one.read_bytes() for one in planted.folder.iterdir() if one.name != "key"}
    assert {"ledger", "audit", "learned", "decisions"} <= files.keys()
    places = {
        "the log": proxy.child.text().encode(),
        "the pages": b"".join(pages),
        "the command line": "".join(told).encode(),
        "repr": repr(config).encode(),
        "errors": b"".join(body for status, body in answers if status >= 400),
        **files,
    }
    canaries = (ENV_KEY, FILE_KEY, CLOUD_KEY, STRANGER, COOKIE, QUERY, PROMPT, SYSTEM, TOOL, BODY, HEADER)
    found = [(canary, place) for place, text in places.items() for canary in canaries if canary.encode() in text]
    assert found == []


@pytest.mark.parametrize("status", [500, 503, 200])
def test_what_a_backend_repeats_of_a_request_is_told_to_its_client_alone(
    work: Path, httpserver: HTTPServer, status: int
) -> None:
    def repeat(request: Request) -> Response:
        told = json.dumps({"error": {"message": f"cannot read: {request.get_data(as_text=True)}"}})
        return Response(f"data: {told}\n\n" if status == 200 else told, status, content_type="text/event-stream")

    httpserver.expect_request("/v1/models").respond_with_json({"object": "list", "data": [{"id": MODEL}]})
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(repeat)
    record = work / f"repeated-{status}"
    backend = {"id": "parrot", "type": "openai", "endpoint": httpserver.url_for("/v1")}
    changes = {"backends": [backend], "routing": {"default_backend": "", "record_file": str(record)}}
    chat = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    with ProxyProcess(work, changes=changes) as proxy:
        answers = [ask(proxy, "POST", "/v1/chat/completions", json.dumps(chat).encode(), {}) for _ in range(4)]
        assert PROMPT.encode() in answers[0][1]
        for accept in ("application/json", "text/plain"):
            for path in PAGES:
                assert PROMPT.encode() not in ask(proxy, "GET", path, b"", {"Accept": accept})[1], path
        proxy.stop()
        assert proxy.log_lines('"result":"failed"')
        assert PROMPT not in proxy.child.text() + record.read_text()


PAGES = (
    "/metrics", "/health", "/backends", "/version", "/proxy/queue", "/proxy/decisions?limit=100", "/proxy/calibration",
    "/efficiency", "/openapi.json",
)  # fmt: skip


def fetch(proxy: ProxyProcess, path: str) -> bytes:
    status, body = ask(proxy, "GET", path, b"", {"Authorization": f"Bearer {ENV_KEY}", "Accept": "application/json"})
    assert status == 200, path
    return body


def ask(proxy: ProxyProcess, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=20)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        head = "".join(f"{name}: {value}\n" for name, value in answer.getheaders()).encode()
        # What a model says is the client's own; nothing else that comes back may hold what was sent.
        return answer.status, head + (answer.read() if answer.status >= 400 or method == "GET" else b"")


def sing(proxy: ProxyProcess) -> Iterator[tuple[int, bytes]]:
    """Requests that go well, and in every way not."""
    chat = {"model": MODEL, "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]}
    tools = [{"type": "function", "function": {"name": TOOL, "description": TOOL, "parameters": {"type": "object"}}}]
    bodies: list[tuple[str, object]] = [
        ("/api/generate", {"model": MODEL, "prompt": PROMPT, "system": SYSTEM, "stream": False}),
        ("/api/chat", {**chat, "tools": tools, "stream": False}),
        ("/api/embed", {"model": MODEL, "input": PROMPT}),
        ("/v1/chat/completions", chat),
        ("/v1/messages", {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": PROMPT}]}),
        ("/v1/responses", {"model": MODEL, "input": PROMPT, "instructions": SYSTEM}),
        ("/compute/v1/generate", {"model": MODEL, "prompt": PROMPT}),
    ]
    more = {"Content-Type": "application/json", "Cookie": f"session={COOKIE}", "X-Other": HEADER}
    for key in (ENV_KEY, FILE_KEY, STRANGER):
        for path, body in bodies:
            for name in ("Authorization", "x-api-key"):
                value = f"Bearer {key}" if name == "Authorization" else key
                yield ask(proxy, "POST", f"{path}?api_key={QUERY}", json.dumps(body).encode(), {**more, name: value})
    mine = {**more, "Authorization": f"Bearer {ENV_KEY}"}
    for path, _ in bodies:
        yield ask(proxy, "POST", path, b'{"model": "' + BODY.encode(), mine)
        yield ask(
            proxy, "POST", path, json.dumps({"prompt": PROMPT, "input": PROMPT, **chat, "model": "gone"}).encode(), mine
        )
        yield ask(proxy, "POST", path, b"", mine)
    user = {**more, "Authorization": f"Bearer {FILE_KEY}"}
    yield ask(proxy, "POST", "/api/pull", json.dumps({"model": "m", "prompt": PROMPT}).encode(), user)
    yield ask(proxy, "POST", "/api/delete", json.dumps({"model": "m"}).encode(), mine)
    yield ask(proxy, "GET", f"/nothing?key={QUERY}", b"", mine)
    with grpc.insecure_channel(proxy.grpc) as channel:
        generate = channel.unary_unary(
            "/compute.v1.ComputeService/Generate", compute_pb2.GenerateRequest.SerializeToString
        )
        for key in (ENV_KEY, STRANGER):
            with contextlib.suppress(grpc.RpcError):
                request = compute_pb2.GenerateRequest(prompt=PROMPT, model=MODEL)
                generate(request, metadata=(("authorization", f"Bearer {key}"), ("x-other", HEADER)), timeout=20)


def run(planted: Planted, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "ollama_proxy", *words]
    if words[0] in ("doctor", "keys"):
        command += ["--config", str(planted.proxy.config_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(planted.folder.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr

"""Foreign clients of HTTP/2 as command lines: what each is told, and what it says of its call."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from google.protobuf import json_format

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.h2.frames import grpc_message
from tests.support.processes import ROOT
from tests.support.proxy import ProxyProcess

_PROTO = ROOT / "proto/compute/v1/compute.proto"
_SERVICE = "compute.v1.ComputeService"
_JS = ROOT / "tests/h2/clients.js"
_FILLED = re.compile(rb"recv DATA frame <length=[1-9]")
OK, CANCELLED, DEADLINE_EXCEEDED = 0, 1, 4


@dataclass(frozen=True)
class Ask:
    """A call: of which kind, for how many tokens, with which deadline, broken off by the client itself or not."""

    proxy: ProxyProcess
    folder: Path
    stream: bool
    tokens: int = 12
    deadline_s: float | None = None
    cancel: bool = False

    @property
    def method(self) -> str:
        return "GenerateStream" if self.stream else "Generate"

    @property
    def request(self) -> str:
        """As protobuf's JSON."""
        options = {"maxTokens": self.tokens}
        wish = {"target": "nvidia"}
        return json.dumps({"prompt": "hi", "model": "qwen2.5:0.5b", "annotations": wish, "options": options})

    @property
    def framed(self) -> Path:
        """A file with the body of a gRPC call."""
        message = json_format.Parse(self.request, compute_pb2.GenerateRequest()).SerializeToString()
        path = self.folder / "framed"
        path.write_bytes(grpc_message(message))
        return path

    @property
    def document(self) -> Path:
        """A file with the body of a request to the JSON API."""
        path = self.folder / "document"
        options = {"num_predict": self.tokens}
        text = json.dumps({"model": "qwen2.5:0.5b", "prompt": "hi", "stream": self.stream, "options": options})
        path.write_text(text)
        return path

    @property
    def grpc_url(self) -> str:
        return f"http://{self.proxy.grpc}/{_SERVICE}/{self.method}"


class Outcome(NamedTuple):
    """How the call ended; how many messages or pieces came, where the client tells."""

    code: int
    pieces: int | None


class Client(NamedTuple):
    """`command` makes the arguments, `read` understands what came of them.

    `breaks_off`: it can cancel by itself. `counts_silence`: its deadline begins anew with every byte.
    """

    tool: str
    command: Callable[[Ask], list[str]]
    read: Callable[[subprocess.CompletedProcess[bytes]], Outcome]
    breaks_off: bool = False
    counts_silence: bool = False


def _say(ask: Ask) -> list[str]:
    deadline = "-" if ask.deadline_s is None else str(ask.deadline_s)
    rest = ["cancel"] if ask.cancel else []
    return [ask.proxy.grpc, str(_PROTO), ask.method, ask.request, deadline, *rest]


def _read_json(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    found = json.loads(done.stdout)
    return Outcome(found["code"], found["pieces"])


def _ask_grpcurl(ask: Ask) -> list[str]:
    limit = [] if ask.deadline_s is None else ["-max-time", str(ask.deadline_s)]
    return ["-plaintext", *limit, "-d", ask.request, ask.proxy.grpc, f"{_SERVICE}/{ask.method}"]


def _read_grpcurl(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    pieces = done.stdout.count(b'"backendUsed"')
    if done.returncode == 0:
        return Outcome(OK, pieces)
    assert b"Code: DeadlineExceeded" in done.stderr, done.stderr
    return Outcome(DEADLINE_EXCEEDED, pieces)


def _ask_ghz(ask: Ask) -> list[str]:
    limit = [] if ask.deadline_s is None else ["--timeout", f"{ask.deadline_s}s"]
    runs = ["-n", "1" if ask.tokens > 100 else "8", "-c", "1" if ask.tokens > 100 else "4", "--connections", "1"]
    call = ["--insecure", "--proto", str(_PROTO), "--call", f"{_SERVICE}.{ask.method}", "-d", ask.request]
    return [*call, *runs, *limit, "-O", "json", ask.proxy.grpc]


def _read_ghz(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    report = json.loads(done.stdout)
    (status, count), *others = report["statusCodeDistribution"].items()
    assert (others, count) == ([], report["count"])
    return Outcome({"OK": OK, "DeadlineExceeded": DEADLINE_EXCEEDED}[status], None)


def _grpc_headers(ask: Ask) -> list[str]:
    timeout = [] if ask.deadline_s is None else ["-H", f"grpc-timeout: {int(ask.deadline_s * 1000)}m"]
    return ["-H", "content-type: application/grpc", "-H", "te: trailers", *timeout]


def _ask_curl_grpc(ask: Ask) -> list[str]:
    body = ["--data-binary", f"@{ask.framed}", "-D", "/dev/stderr"]
    return ["-sSN", "--http2-prior-knowledge", *_grpc_headers(ask), *body, ask.grpc_url]


def _read_curl_grpc(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    assert done.returncode == 0, done.stderr
    status = re.search(rb"grpc-status: (\d+)", done.stderr)
    assert status is not None, done.stderr
    pieces, rest = 0, done.stdout
    while rest:
        rest = rest[5 + int.from_bytes(rest[1:5], "big") :]
        pieces += 1
    return Outcome(int(status[1]), pieces)


def _ask_nghttp_grpc(ask: Ask) -> list[str]:
    return ["-vn", "-H", ":method: POST", *_grpc_headers(ask), "-d", str(ask.framed), ask.grpc_url]


def _read_nghttp_grpc(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    assert done.returncode == 0, done.stdout
    status = re.search(rb"grpc-status: (\d+)", done.stdout)
    assert status is not None, done.stdout
    return Outcome(int(status[1]), len(_FILLED.findall(done.stdout)))


def _ask_curl_http(ask: Ask) -> list[str]:
    limit = [] if ask.deadline_s is None else ["--max-time", str(ask.deadline_s)]
    body = ["--data-binary", f"@{ask.document}", "-H", "X-Target-Backend: nvidia"]
    version = ["--http2-prior-knowledge", "-w", "%{stderr}%{http_version} %{http_code}"]
    return ["-sSN", *version, *limit, *body, f"{ask.proxy.url}/api/generate"]


def _read_curl_http(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    lines = done.stdout.splitlines()
    if done.returncode == 28:
        return Outcome(DEADLINE_EXCEEDED, len(lines))
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(b"2 200"), done.stderr
    assert json.loads(lines[-1])["done"] is True
    return Outcome(OK, len(lines))


def _ask_nghttp_http(ask: Ask) -> list[str]:
    limit = [] if ask.deadline_s is None else ["-t", f"{int(ask.deadline_s * 1000)}ms"]
    wish = ["-H", ":method: POST", "-H", "x-target-backend: nvidia"]
    return ["-vn", *limit, *wish, "-d", str(ask.document), f"{ask.proxy.url}/api/generate"]


def _read_nghttp_http(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    pieces = len(_FILLED.findall(done.stdout))
    if b"[ERROR] Timeout" in done.stderr:
        return Outcome(DEADLINE_EXCEEDED, pieces)
    assert b":status: 200" in done.stdout, done.stdout + done.stderr
    return Outcome(OK, pieces)


CLIENTS = {
    "grpcio": Client(sys.executable, lambda ask: ["-m", "tests.h2.grpcio_client", *_say(ask)], _read_json, True),
    "grpc-js": Client("grpc-js", lambda ask: [str(_JS), *_say(ask)], _read_json, True),
    "grpcurl": Client("grpcurl", _ask_grpcurl, _read_grpcurl),
    "ghz": Client("ghz", _ask_ghz, _read_ghz),
    "curl, gRPC": Client("curl", _ask_curl_grpc, _read_curl_grpc),
    "nghttp, gRPC": Client("nghttp", _ask_nghttp_grpc, _read_nghttp_grpc),
    "curl, JSON": Client("curl", _ask_curl_http, _read_curl_http),
    "nghttp, JSON": Client("nghttp", _ask_nghttp_http, _read_nghttp_http, counts_silence=True),
}

"""Keys from the command line to the answer, with clients as they come from PyPI, and what each key leaves behind."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import anthropic
import grpc
import msgspec
import ollama
import openai
import pytest
from typer.testing import CliRunner

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.cli import keys
from ollama_proxy.config.key_file import StoredKey, changing, hash_key, make_key
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"
COUNT = [{"role": "user", "content": "Count"}]


def read(body: bytes) -> Any:
    """JSON where it is."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


GRANTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("sdk", "wide", "mine", "theirs", "traced", "user")},
    "narrow": {"models": ["qwen2.5:*"], "backends": ["ollama-cpu"]},
    "tied": {"backends": ["ollama-igpu"]},
    "slow": {"requests_per_minute": 2},
    "thrifty": {"tokens_per_minute": 12},
    "cold": {"wh_per_hour": 1e-7},
    "boss": {"permissions": ["admin", "models"]},
    "all": {"permissions": ["infer", "admin"]},
}


class Box:
    """A proxy that asks for keys, and the command line of who runs it."""

    def __init__(self, work: Path, lab: LabProcess) -> None:
        self.state = work / "keys-state"
        auth = {"enabled": True, "keys_file": str(self.state / "keys.json"), "audit_file": str(self.state / "audit")}
        ledger = {"ledger_path": str(self.state / "ledger.sqlite")}
        self.keys = {name: make_key() for name in GRANTS}
        with changing(self.state / "keys.json") as there:
            for name, grant in GRANTS.items():
                key_hash = hash_key(self.keys[name].encode())
                there.append(
                    msgspec.convert({"name": name, "key_hash": key_hash, "created_unix_s": 1.0, **grant}, StoredKey)
                )
        self.proxy = ProxyProcess(
            work, lab.endpoints, changes={"server": {"auth": auth}, "energy": ledger}, speed=lab.speed
        )

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "ollama_proxy", "keys", *words]
        if words[0] != "hash":
            command += ["--config", str(self.proxy.config_path)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(command, capture_output=True, text=True, env=environ, input=stdin, check=False)

    def ask(self, path: str, key: str, body: object = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, JSON, headers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.proxy.url + path, data, {"Authorization": f"Bearer {key}", **headers})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, read(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, read(error.read()), error.headers

    def generate(self, key: str, **more: object) -> tuple[int, Any, Any]:
        body = {"model": MODEL, "prompt": "Count", "stream": False, "options": {"num_predict": 5}, **more}
        return self.ask("/api/generate", key, body)


@pytest.fixture(scope="module")
def box(work: Path, lab: LabProcess) -> Iterator[Box]:
    found = Box(work, lab)
    with found.proxy:
        yield found


def test_a_key_is_shown_once_and_works_within_a_second(box: Box) -> None:
    done = box.run("add", "bob", "--requests-per-minute", "1000", "--models", "qwen*", "--expires", "2099-01-01")
    key = done.stdout.strip()
    assert key.startswith("ocp_")
    assert "\n" not in key
    wait_until(lambda: box.ask("/api/tags", key)[0] == 200, "the new key to open")
    listed = box.run("list").stdout
    assert "bob  infer  (models qwen*; requests per minute 1000; expires 2099-01-01" in listed
    assert key not in listed + done.stderr
    assert key.encode() not in b"".join(one.read_bytes() for one in box.state.iterdir())
    names = [json.loads(line)["name"] for line in box.run("list", "--json").stdout.splitlines()]
    # Other tests make keys besides, in whatever order.
    assert [name for name in names if name in (*GRANTS, "bob")] == [*GRANTS, "bob"]
    again = box.run("add", "bob")
    assert (again.returncode, again.stdout) == (2, "")
    assert "already" in again.stderr
    assert box.run("revoke", "bob").returncode == 0
    wait_until(lambda: box.ask("/api/tags", key)[0] == 401, "the revoked key to be refused")
    assert box.run("revoke", "bob").returncode == 2
    acts = [json.loads(line) for line in (box.state / "audit").read_text().splitlines()]
    told = [(act["action"], act["outcome"]) for act in acts if act["target"] == "bob"]
    assert told == [("keys add", "done"), ("keys add", "failed"), ("keys revoke", "done"), ("keys revoke", "failed")]
    assert key not in (box.state / "audit").read_text()


def test_a_name_is_not_given_away_with_all_that_is_kept_by_it(box: Box) -> None:
    assert box.run("add", "lent").returncode == 0
    assert box.run("revoke", "lent").returncode == 0
    given = box.run("add", "lent")
    assert (given.returncode, given.stdout) == (2, "")
    assert "--same-owner" in given.stderr
    assert box.run("add", "lent", "--same-owner").stdout.startswith("ocp_")
    assert box.run("revoke", "lent").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "a b"), "a name has letters"),
        (("add", "x", "--permissions", "fly"), "permissions"),
        (("add", "x", "--permissions", ""), "permissions"),
        (("add", "x", "--permissions", "models", "--models", "qwen*"), "cannot be had for some"),
        (("add", "x", "--models", ""), "--models is empty"),
        (("add", "x", "--models", " , "), "--models is empty"),
        (("add", "x", "--backends", ","), "--backends is empty"),
        (("add", "x", "--backends", "nowhere"), "no backend is called nowhere"),
        (("add", "x", "--expires", "tomorrow"), "expires"),
        (("add", "x", "--expires", "2099-02-30"), "no day"),
        (("revoke", "nobody"), "there is no key called nobody"),
    ],
)
def test_a_slip_of_the_tongue_makes_no_key(box: Box, words: tuple[str, ...], told: str) -> None:
    before = (box.state / "keys.json").read_bytes()
    done = CliRunner().invoke(keys.app, [*words, "--config", str(box.proxy.config_path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert (box.state / "keys.json").read_bytes() == before


def test_the_hash_for_the_file(box: Box) -> None:
    done = box.run("hash", stdin="a-key-that-is-long-enough\n")
    assert done.stdout == f"sha256:{sha256(b'a-key-that-is-long-enough').hexdigest()}\n"
    assert box.run("hash", stdin="short").returncode == 2


def test_the_sdks_with_a_key(box: Box) -> None:
    key = box.keys["sdk"]
    url, messages = box.proxy.url, COUNT
    for good in (True, False):
        shown = key if good else key[:-1]
        with openai.OpenAI(base_url=f"{url}/v1", api_key=shown, max_retries=0) as client:
            asked: Any = client.chat.completions.create
            if good:
                assert asked(model=MODEL, messages=messages, max_tokens=5).choices[0].message.content
                assert MODEL in [one.id for one in client.models.list()]
                events = list(asked(model=MODEL, messages=messages, max_tokens=5, stream=True))
                assert events[-1].choices[0].finish_reason
            else:
                with pytest.raises(openai.AuthenticationError) as caught:
                    asked(model=MODEL, messages=messages)
                assert caught.value.code == "invalid_api_key"
        with anthropic.Anthropic(base_url=url, api_key=shown, max_retries=0) as messenger:
            create: Any = messenger.messages.create
            if good:
                assert create(model=MODEL, messages=messages, max_tokens=5).content
            else:
                with pytest.raises(anthropic.AuthenticationError):
                    create(model=MODEL, messages=messages, max_tokens=5)
        with ollama.Client(host=url, headers={"Authorization": f"Bearer {shown}"}) as native:
            if good:
                assert native.generate(MODEL, "Count", options={"num_predict": 5}).response
            else:
                with pytest.raises(ollama.ResponseError) as refused:
                    native.list()
                assert refused.value.status_code == 401
        with grpc.insecure_channel(box.proxy.grpc) as channel:
            call = channel.unary_unary(
                "/compute.v1.ComputeService/Generate",
                compute_pb2.GenerateRequest.SerializeToString,
                compute_pb2.GenerateResponse.FromString,
            )
            request = compute_pb2.GenerateRequest(prompt="Count", model=MODEL)
            metadata = (("authorization", f"Bearer {shown}"),)
            if good:
                assert call(request, metadata=metadata, timeout=20).response
            else:
                with pytest.raises(grpc.RpcError) as failed:
                    call(request, metadata=metadata, timeout=20)
                assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_key_for_some_models_and_backends_sees_no_others(box: Box) -> None:
    key = box.keys["narrow"]
    first = box.keys["wide"]
    everything = {one["name"] for one in box.ask("/api/tags", first)[1]["models"]}
    narrow = {one["name"] for one in box.ask("/api/tags", key)[1]["models"]}
    assert narrow
    assert narrow < everything
    assert all(name.startswith("qwen2.5:") for name in narrow)
    hidden = sorted(everything - narrow)[0]
    assert {one["id"] for one in box.ask("/v1/models", key)[1]["data"]} == narrow
    version = {"anthropic-version": "2023-06-01"}
    assert {one["id"] for one in box.ask("/v1/models?limit=1000", key, **version)[1]["data"]} <= narrow
    assert box.ask(f"/v1/models/{hidden}", key)[0] == 404
    assert box.ask("/api/show", key, {"model": hidden})[0] in (403, 404)
    json_ = {"Accept": "application/json"}
    assert [one["id"] for one in box.ask("/backends", key, **json_)[1]["backends"]] == ["ollama-cpu"]
    assert list(box.ask("/health", key, **json_)[1]["backends"]) == ["ollama-cpu"]
    assert [one["id"] for one in box.ask("/compute/v1/backends", key)[1]["backends"]] == ["ollama-cpu"]
    for model, status in ((MODEL, 200), (hidden, 403)):
        found, _, headers = box.generate(key, model=model)
        assert found == status
        assert headers["X-Backend-Used"] in ("ollama-cpu", None)
    status, told, headers = box.generate(key, model="qwen2.5:0.6b")
    assert (status, headers["X-Nearest-Models"]) == (404, None)
    path = "/api/experimental/model-recommendations"
    backends = [box.ask(path, one)[2]["X-Backend-Used"] for one in (key, box.keys["tied"], first)]
    assert backends == ["ollama-cpu", "ollama-igpu", "ollama-npu"]
    assert list(box.ask("/proxy/calibration", key)[1]["backends"]) == ["ollama-cpu"]
    assert "ollama-nvidia" in box.ask("/proxy/calibration", first)[1]["backends"]
    status, told, _ = box.ask("/metrics", key)
    assert (status, "tell of all" in told["error"]) == (403, True)
    assert "ollama-nvidia" in box.ask("/metrics", first)[1]
    assert box.ask("/proxy/decide", key, {"model": MODEL})[0] == 403
    assert box.ask("/proxy/decide", first, {"model": MODEL})[0] == 200
    assert box.ask("/proxy/decisions/d-1-1", key)[0] == 403
    status, told, _ = box.ask(
        "/api/generate", key, {"model": MODEL, "prompt": "x", "stream": False}, **{"X-Target-Backend": "ollama-nvidia"}
    )
    assert status == 400
    assert "ollama-igpu" not in told["error"]


@pytest.mark.parametrize(
    "path",
    [
        *("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/v1/chat/completions"),
        *("/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses", "/v1/images/generations"),
    ],
)
def test_a_key_for_some_models_gets_no_other_by_another_spelling(box: Box, path: str) -> None:
    asked = {"messages": COUNT, "prompt": "x", "input": "x", "max_tokens": 5, "stream": False}
    for first, second in ((MODEL, "other:1"), ("other:1", MODEL)):
        status, _, _ = box.ask(path, box.keys["narrow"], {"model": first, **asked, "Model": second})
        assert (status == 403) is (second != MODEL)


def test_a_key_for_one_backend_waits_for_no_other(box: Box, lab: LabProcess) -> None:
    key = box.keys["tied"]
    with lab.fault("igpu", "status", status=503, paths=["/api/generate"]):
        status, told, headers = box.generate(key)
    assert status >= 500
    assert headers["X-Backend-Used"] is None
    assert "ollama-nvidia" not in json.dumps(told)


def test_so_many_requests_a_minute_and_an_honest_time_to_come_back(box: Box) -> None:
    key = box.keys["slow"]
    assert [box.generate(key)[0] for _ in range(3)] == [200, 200, 429]
    status, told, headers = box.ask("/v1/chat/completions", key, {"model": MODEL, "messages": COUNT})
    assert status == 429
    assert 50 <= int(headers["Retry-After"]) <= 62
    assert "2 requests a minute" in told["error"]["message"]
    assert box.ask("/api/tags", key)[0] == 200, "lists are no requests to a model"


def test_tokens_and_energy(box: Box) -> None:
    key = box.keys["thrifty"]
    assert box.generate(key, options={"num_predict": 20})[0] == 200
    status, told, _ = box.generate(key)
    assert (status, "12 tokens a minute" in told["error"]) == (429, True)
    key = box.keys["cold"]
    assert box.generate(key)[0] == 200
    wait_until(lambda: box.generate(key)[0] == 429, "the joules to be booked")
    status, told, headers = box.generate(key)
    assert "Wh an hour" in told["error"]
    assert int(headers["Retry-After"]) > 3000


def test_a_stored_answer_is_its_owners(box: Box) -> None:
    mine, theirs = box.keys["mine"], box.keys["theirs"]
    status, answer, _ = box.ask("/v1/responses", mine, {"model": MODEL, "input": "Count", "max_output_tokens": 5})
    assert status == 200
    path = f"/v1/responses/{answer['id']}"
    assert box.ask(path, mine)[0] == 200
    assert box.ask(path, theirs)[0] == 404
    again = {"model": MODEL, "input": "More", "previous_response_id": answer["id"], "max_output_tokens": 5}
    assert box.ask("/v1/responses", theirs, again)[0] == 400
    assert box.ask("/v1/responses", mine, again)[0] == 200


def test_a_decision_is_its_owners(box: Box) -> None:
    _, _, headers = box.generate(box.keys["mine"])
    path = f"/proxy/decisions/{headers['X-Decision-ID']}"
    assert [box.ask(path, box.keys[name])[0] for name in ("mine", "theirs", "all")] == [200, 404, 200]


def test_who_it_was_is_in_the_ledger_and_the_log_and_the_key_is_nowhere(box: Box) -> None:
    key = box.keys["traced"]
    assert box.generate(key)[0] == 200

    def booked() -> list[Any]:
        with sqlite3.connect(box.state / "ledger.sqlite") as ledger:
            return ledger.execute("SELECT key FROM requests WHERE key = 'traced'").fetchall()

    wait_until(lambda: (box.state / "ledger.sqlite").exists() and booked(), "the row in the ledger")
    wait_until(lambda: box.proxy.log_lines('"key":"traced"'), "the line in the log")
    assert key not in box.proxy.child.text()


def test_who_changed_what_is_in_the_audit_log(box: Box) -> None:
    admin = box.keys["boss"]
    user = box.keys["user"]
    assert box.ask("/efficiency", admin, {"mode": "Balanced"})[0] == 200
    assert box.ask("/efficiency", user, {"mode": "Quiet"})[0] == 403
    assert box.ask("/api/copy", user, {"source": "a", "destination": "b"})[0] == 403
    assert box.ask("/api/delete", "ocp_nobody", {"model": "a"}, **{"X-HTTP-Method-Override": "DELETE"})[0] == 401
    acts = [json.loads(line) for line in (box.state / "audit").read_text().splitlines()]
    assert {oct((box.state / "audit").stat().st_mode & 0o777)} == {"0o600"}
    found = {(act["who"], act["action"], act["target"], act["outcome"]) for act in acts}
    assert ("boss", "POST /efficiency", "Balanced", "status 200") in found
    assert ("user", "POST /efficiency", "Quiet", "status 403") in found
    assert ("user", "POST /api/copy", "a b", "status 403") in found
    assert all(act["time"].endswith("+00:00") and "where" in act for act in acts)
    for secret in (admin, user):
        assert secret not in (box.state / "audit").read_text()

"""Models managed through the proxy on two real Ollama servers: by HTTP, by the command line, from a registry."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.support.gguf import tiny_gguf
from tests.support.ollama import RealOllama, find_gguf, find_ollama
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.registry import Registry, digest_of

pytestmark = [pytest.mark.e2e, pytest.mark.ollama]

PAIR = ("ollama-npu", "ollama-igpu")
MODEL = "smollm2:135m"


def start(servers: RealOllama, work: Path, placement: str) -> ProxyProcess:
    backends = [
        {"id": name, "type": "ollama", "hardware": name.removeprefix("ollama-"), "endpoint": servers.url(name)}
        for name in PAIR
    ]
    # No probes of its own accord: what lists show, they show because they were asked.
    changes: dict[str, Any] = {
        "backends": backends,
        "models": {"placement": placement},
        "routing": {"default_backend": "ollama-npu"},
        "health": {"interval_seconds": 3600},
    }
    return ProxyProcess(work, changes=changes)


@pytest.fixture(scope="module")
def first(ollamas: RealOllama, work: Path) -> Iterator[ProxyProcess]:
    """Models are brought to the default backend."""
    with start(ollamas, work, "first") as process:
        yield process


@pytest.fixture(scope="module")
def everywhere(ollamas: RealOllama, work: Path) -> Iterator[ProxyProcess]:
    """Models are brought to both."""
    with start(ollamas, work, "all") as process:
        yield process


@pytest.fixture(autouse=True)
def clean(ollamas: RealOllama) -> Iterator[None]:
    """What a test has made is gone after it."""
    before = {name: names(ollamas.url(name)) for name in PAIR}
    yield
    for name in PAIR:
        for model in names(ollamas.url(name)) - before[name]:
            ask(ollamas.url(name), "DELETE", "/api/delete", {"model": model})


def ask(
    url: str, method: str, path: str, document: object = None, headers: dict[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    body = document if isinstance(document, bytes) else None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url + path, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def names(url: str) -> set[str]:
    return {one["name"] for one in json.loads(http_get(url + "/api/tags")[1])["models"]}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def where(servers: RealOllama, model: str) -> list[str]:
    return [name for name in PAIR if model in names(servers.url(name))]


# -- every holder ---------------------------------------------------------------------------


def test_copy_and_delete_reach_every_holder_and_lists_show_it_at_once(ollamas: RealOllama, first: ProxyProcess) -> None:
    for round_number in range(3):
        model = f"copied-{round_number}:1"
        assert model not in names(first.url)
        status, body, headers = ask(first.url, "POST", "/api/copy", {"source": MODEL, "destination": model})
        assert (status, body, headers["X-Backend-Used"]) == (200, "", ",".join(PAIR))
        assert model in names(first.url)
        assert where(ollamas, model) == list(PAIR)
        document = {"model": model, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
        assert ask(first.url, "POST", "/api/show", document)[0] == 200
        assert ask(first.url, "DELETE", "/api/delete", {"model": model})[:2] == (200, "")
        assert model not in names(first.url)
        assert where(ollamas, model) == []
        assert ask(first.url, "POST", "/api/show", {"model": model})[0] == 404
        assert ask(first.url, "DELETE", "/api/delete", {"model": model})[:2] == (
            404,
            f'{{"error":"model \'{model}\' not found"}}',
        )


def test_only_holders_are_asked(ollamas: RealOllama, first: ProxyProcess) -> None:
    assert ask(ollamas.url("ollama-igpu"), "POST", "/api/copy", {"source": MODEL, "destination": "there:1"})[0] == 200
    status, _, headers = ask(first.url, "POST", "/api/copy", {"source": "there:1", "destination": "again:1"})
    assert (status, headers["X-Backend-Used"]) == (200, "ollama-igpu")
    assert where(ollamas, "again:1") == ["ollama-igpu"]
    for model in ("there:1", "library/again:1"):
        assert ask(first.url, "DELETE", "/api/delete", {"name": model})[0] == 200
    assert where(ollamas, "again:1") == where(ollamas, "there:1") == []


def test_a_failure_of_one_names_it(ollamas: RealOllama, first: ProxyProcess) -> None:
    """A destination that only one server cannot write: its folder is a file there."""
    models = Path(ollamas._work) / "models-ollama-igpu/manifests/registry.ollama.ai/library/blocked"
    models.write_text("in the way")
    try:
        status, body, _ = ask(first.url, "POST", "/api/copy", {"source": MODEL, "destination": "blocked:1"})
        assert status == 500
        error = json.loads(body)["error"]
        assert error.startswith("ollama-igpu: ")
        assert error.endswith("(done on ollama-npu)")
        assert "blocked:1" in names(first.url)
    finally:
        models.unlink()


# -- files and create -------------------------------------------------------------------------


@pytest.fixture
def served(first: ProxyProcess, everywhere: ProxyProcess, request: pytest.FixtureRequest) -> ProxyProcess:
    return first if request.param == "first" else everywhere


@pytest.mark.parametrize(("served", "expected"), [("first", ["ollama-npu"]), ("all", list(PAIR))], indirect=["served"])
def test_a_file_and_its_model_go_where_models_are_placed(
    ollamas: RealOllama, served: ProxyProcess, expected: list[str]
) -> None:
    blob = tiny_gguf(len(expected))
    path = f"/api/blobs/{digest_of(blob)}"
    remove_blob(ollamas, blob)
    assert ask(served.url, "HEAD", path)[0] == 404
    status, _, headers = ask(served.url, "POST", path, blob)
    assert (status, headers["X-Backend-Used"]) == (201, ",".join(expected))
    assert ask(served.url, "HEAD", path)[0] == 200
    assert [ask(ollamas.url(name), "HEAD", path)[0] for name in PAIR] == [
        200 if one in expected else 404 for one in PAIR
    ]
    assert ask(served.url, "POST", path, blob)[0] == 200
    model = f"made-{len(expected)}:1"
    status, body, _ = ask(served.url, "POST", "/api/create", {"model": model, "files": {"x.gguf": digest_of(blob)}})
    assert status == 200
    assert [one.get("status") for one in lines(body)] == [
        "parsing GGUF",
        f"using existing layer {digest_of(blob)}",
        "writing manifest",
        "success",
    ]
    assert where(ollamas, model) == expected
    assert model in names(served.url)


def test_a_create_follows_its_file(ollamas: RealOllama, first: ProxyProcess, everywhere: ProxyProcess) -> None:
    blob = tiny_gguf(7)
    remove_blob(ollamas, blob)
    target = {"X-Target-Backend": "ollama-igpu"}
    assert ask(first.url, "POST", f"/api/blobs/{digest_of(blob)}", blob, target)[0] == 201
    document = {"model": "follows:1", "files": {"x.gguf": digest_of(blob)}, "stream": False}
    status, body, headers = ask(first.url, "POST", "/api/create", document)
    assert (status, body, headers["X-Backend-Used"]) == (200, '{"status":"success"}', "ollama-igpu")
    assert where(ollamas, "follows:1") == ["ollama-igpu"]
    # The other proxy has not seen the upload, and asks.
    status, _, headers = ask(everywhere.url, "POST", "/api/create", {**document, "model": "asks:1"})
    assert (status, headers["X-Backend-Used"]) == (200, "ollama-igpu")


def test_a_create_goes_where_the_model_is_that_it_starts_from(ollamas: RealOllama, first: ProxyProcess) -> None:
    assert ask(ollamas.url("ollama-igpu"), "POST", "/api/copy", {"source": MODEL, "destination": "base:1"})[0] == 200
    document = {"model": "derived:1", "from": "base:1", "system": "Be brief.", "stream": False}
    status, _, headers = ask(first.url, "POST", "/api/create", document)
    assert (status, headers["X-Backend-Used"]) == (200, "ollama-igpu")


def remove_blob(servers: RealOllama, blob: bytes) -> None:
    for name in PAIR:
        path = Path(servers._work) / f"models-{name}/blobs/{digest_of(blob).replace(':', '-')}"
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("target", ["nobody", "ollama-npu,nobody"])
def test_a_target_that_is_not_there_is_refused(first: ProxyProcess, target: str) -> None:
    for path in ("/api/pull", "/api/create"):
        status, body, _ = ask(first.url, "POST", path, {"model": "x:1", "from": MODEL}, {"X-Target-Backend": target})
        assert status == 400
        assert "'nobody'" in json.loads(body)["error"]


MEGABYTE = 1 << 20


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_file_passes_in_constant_memory(
    ollamas: RealOllama, everywhere: ProxyProcess, tmp_path: Path, chunked: bool
) -> None:
    """200 MB to two servers at once, hashed and written by both, through a proxy that keeps its size."""
    size = 200 * MEGABYTE
    piece = os.urandom(MEGABYTE)
    digest = hashlib.sha256()
    for _ in range(size // MEGABYTE):
        digest.update(piece)
    name = f"sha256:{digest.hexdigest()}"
    before = memory_bytes(everywhere, "VmRSS")
    reset_peak(everywhere)
    client = http.client.HTTPConnection("127.0.0.1", everywhere.http_port, timeout=100)
    body = (piece for _ in range(size // MEGABYTE))
    headers = {} if chunked else {"Content-Length": str(size)}
    client.request("POST", f"/api/blobs/{name}", body, headers, encode_chunked=chunked)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (201, b"")
    grown = memory_bytes(everywhere, "VmHWM") - before
    print(f"grew by {grown / 1e6:.1f} MB")
    assert grown < 20_000_000
    # The same connection serves on, and who has the file says so at once, though the client sends it all.
    client.request("POST", f"/api/blobs/{name}", (piece for _ in range(64)), {"Content-Length": str(64 * MEGABYTE)})
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    client.request("GET", "/api/version")
    answer = client.getresponse()
    assert (answer.status, answer.read()[:10]) == (200, b'{"version"')
    client.close()
    for server in PAIR:
        path = Path(ollamas._work) / f"models-{server}/blobs/{name.replace(':', '-')}"
        assert path.stat().st_size == size
        path.unlink()


def test_a_file_passes_over_http2(ollamas: RealOllama, everywhere: ProxyProcess, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    blob = os.urandom(20 * MEGABYTE)
    (tmp_path / "blob").write_bytes(blob)
    url = f"{everywhere.url}/api/blobs/{digest_of(blob)}"
    command = [curl, "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]
    for expected in ("2 201", "2 200"):
        done = subprocess.run(
            [*command, "--data-binary", f"@{tmp_path / 'blob'}", url], capture_output=True, text=True, check=True
        )
        assert done.stdout == expected, done.stderr
    remove_blob(ollamas, blob)


def memory_bytes(process: ProxyProcess, field: str) -> int:
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) * 1024


def reset_peak(process: ProxyProcess) -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.child.pid}/clear_refs").write_text("5")


def test_a_client_that_leaves_in_mid_file_leaves_nothing_running(ollamas: RealOllama, everywhere: ProxyProcess) -> None:
    logs = [ollamas.children[name] for name in PAIR]
    before = [log.text().count('POST     "/api/blobs/') for log in logs]
    client = http.client.HTTPConnection("127.0.0.1", everywhere.http_port, timeout=100)
    client.putrequest("POST", f"/api/blobs/{digest_of(b'never sent')}")
    client.putheader("Content-Length", str(100 * MEGABYTE))
    client.endheaders(bytes(3 * MEGABYTE))
    client.close()
    wait_until(
        lambda: all(log.text().count('POST     "/api/blobs/') > count for log, count in zip(logs, before, strict=True)),
        "both servers to end the upload",
        10,
    )


# -- pull ------------------------------------------------------------------------------------------


def test_a_pull_to_two_servers_is_one_progress(ollamas: RealOllama, everywhere: ProxyProcess) -> None:
    layers = {"model": tiny_gguf(9), "license": os.urandom(3 * MEGABYTE)}
    with Registry(layers, slow_s=0.1) as registry:
        status, body, headers = ask(everywhere.url, "POST", "/api/pull", {"model": registry.model, "insecure": True})
        assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
        found = lines(body)
        assert found[0] == {"status": "pulling manifest"}
        assert [one["status"] for one in found if "digest" not in one] == [
            "pulling manifest",
            "verifying sha256 digest",
            "writing manifest",
            "success",
        ]
        for digest, blob in registry.blobs.items():
            steps = [one for one in found if one.get("digest") == digest]
            assert steps[-1] == {
                "status": f"pulling {digest[7:19]}",
                "digest": digest,
                "total": len(blob),
                "completed": len(blob),
            }
            counts = [one.get("completed", 0) for one in steps]
            assert counts == sorted(set(counts))
        assert len([one for one in found if one.get("digest") == digest_of(layers["license"])]) > 3
        assert where(ollamas, registry.model) == list(PAIR)
        assert registry.model in names(everywhere.url)
        document = {"model": registry.model, "insecure": True, "stream": False}
        assert ask(everywhere.url, "POST", "/api/pull", document)[:2] == (200, '{"status":"success"}')


def test_a_pull_of_what_is_not_there_fails_in_the_servers_words(everywhere: ProxyProcess) -> None:
    with Registry({"model": tiny_gguf()}) as registry:
        missing = registry.model.replace(":1", ":2")
        _, body, _ = ask(everywhere.url, "POST", "/api/pull", {"model": missing, "insecure": True})
        assert lines(body) == [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
        document = {"model": missing, "insecure": True, "stream": False}
        status, body, _ = ask(everywhere.url, "POST", "/api/pull", document)
        assert (status, json.loads(body)) == (500, {"error": "pull model manifest: file does not exist"})
    status, body, headers = ask(everywhere.url, "POST", "/api/pull", {"model": "a b"})
    assert (status, body) == (400, '{"error":"invalid model name"}')
    assert headers["Content-Type"] == "application/json; charset=utf-8"


def test_a_pull_to_one_server_passes_as_it_came(ollamas: RealOllama, first: ProxyProcess) -> None:
    with Registry({"model": tiny_gguf(3)}) as registry:
        target = {"X-Target-Backend": "igpu"}
        status, body, headers = ask(first.url, "POST", "/api/pull", {"model": registry.model, "insecure": True}, target)
        assert (status, headers["X-Backend-Used"]) == (200, "ollama-igpu")
        assert lines(body)[-1] == {"status": "success"}
        assert where(ollamas, registry.model) == ["ollama-igpu"]
        assert registry.model in names(first.url)


# -- clients --------------------------------------------------------------------------------------


def command(proxy: ProxyProcess, *arguments: str, cwd: Path | None = None) -> str:
    binary = find_ollama()
    assert binary is not None
    env = {**os.environ, "OLLAMA_HOST": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [str(binary), *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def unload_all(proxy: ProxyProcess) -> None:
    """Let both servers be as if nobody had asked them yet."""
    for line in command(proxy, "ps").splitlines()[1:]:
        command(proxy, "stop", line.split()[0])
    wait_until(lambda: len(command(proxy, "ps").splitlines()) == 1, "the models to be unloaded")


def test_the_command_line_manages_models(ollamas: RealOllama, everywhere: ProxyProcess, tmp_path: Path) -> None:
    assert MODEL in command(everywhere, "list")
    assert "134.52M" in command(everywhere, "show", MODEL)
    command(everywhere, "cp", MODEL, "cli-copy:1")
    assert where(ollamas, "cli-copy:1") == list(PAIR)
    (tmp_path / "file.gguf").write_bytes(find_gguf().read_bytes())
    (tmp_path / "Modelfile").write_text('FROM ./file.gguf\nPARAMETER num_predict 4\nTEMPLATE """{{ .Prompt }}"""\n')
    assert "success" in command(everywhere, "create", "cli-made:1", "-f", "Modelfile", cwd=tmp_path)
    assert where(ollamas, "cli-made:1") == list(PAIR)
    # Of models with the same weights Ollama runs, and lists, the one that was loaded first.
    unload_all(everywhere)
    assert command(everywhere, "run", "cli-made:1", "Say hello.").strip()
    assert "cli-made:1" in command(everywhere, "ps")
    command(everywhere, "stop", "cli-made:1")
    wait_until(lambda: "cli-made:1" not in command(everywhere, "ps"), "the model to be unloaded")
    assert "deleted" in command(everywhere, "rm", "cli-made:1", "cli-copy:1")
    assert where(ollamas, "cli-made:1") == where(ollamas, "cli-copy:1") == []


def test_the_python_client_manages_models(ollamas: RealOllama, first: ProxyProcess, tmp_path: Path) -> None:
    with ollama.Client(host=first.url) as client:
        manage_with(client, tmp_path)


def manage_with(client: ollama.Client, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf(5))
    digest = client.create_blob(path)
    steps = [one.status for one in client.create("python-made:1", files={"tiny.gguf": digest}, stream=True)]
    assert steps[-1] == "success"
    assert client.copy("python-made:1", "python-copy:1").status == "success"
    assert {"python-made:1", "python-copy:1"} <= {one.model for one in client.list().models}
    for model in ("python-made:1", "python-copy:1"):
        assert client.delete(model).status == "success"
    with pytest.raises(ollama.ResponseError) as caught:
        client.delete("python-made:1")
    assert caught.value.status_code == 404
    with Registry({"model": tiny_gguf(6)}) as registry:
        assert client.pull(registry.model, insecure=True).status == "success"
        assert [one.status for one in client.pull(registry.model, insecure=True, stream=True)][-1] == "success"


def test_accounts_are_the_first_servers(first: ProxyProcess) -> None:
    assert ask(first.url, "GET", "/api/status")[1] == '{"cloud":{"disabled":true,"source":"env"}}'
    status, _, headers = ask(first.url, "POST", "/api/me")
    assert status in (401, 403, 503)
    assert headers["X-Backend-Used"] == "ollama-npu"

"""`/v1/stream/ws` with a client of another make (`websocket-client`) before the emulated fleet."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import websocket

from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
PATH = "/v1/stream/ws"


class Client:
    """JSON over one connection."""

    def __init__(self, proxy: ProxyProcess, **options: Any) -> None:
        self.socket = websocket.create_connection(proxy.url.replace("http:", "ws:") + PATH, timeout=20, **options)

    def close(self) -> None:
        self.socket.close(timeout=1)
        self.socket.shutdown()

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def ask(self, request_id: str, prompt: str = "Say hello.", **more: Any) -> None:
        self.send(**{"request_id": request_id, "model": MODEL, "prompt": prompt, "stream": True, **more})

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.socket.recv())
        return found

    def read_all(self) -> list[dict[str, Any]]:
        """The messages of an answer, up to the one that ends it."""
        found = [self.read()]
        while not found[-1]["done"]:
            found.append(self.read())
        return found

    def read_close(self) -> int:
        """The code of the close that comes next."""
        opcode, data = self.socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE, data
        return int.from_bytes(data[:2], "big")


@pytest.fixture
def connect(lab_proxy: ProxyProcess) -> Iterator[Callable[..., Client]]:
    with contextlib.ExitStack() as opened:

        def connect(**options: Any) -> Client:
            client = Client(lab_proxy, **options)
            opened.callback(client.close)
            return client

        yield connect


def test_a_stream_says_where_it_comes_from_and_what_it_took(connect: Callable[..., Client]) -> None:
    client = connect()
    client.ask("a", options={"max_tokens": 8})
    *tokens, last = client.read_all()
    assert len(tokens) == 8
    assert all(message["request_id"] == "a" and message["token"] and not message["done"] for message in tokens)
    assert tokens[0]["routing"] == last["routing"]
    assert [message for message in tokens if "routing" in message] == tokens[:1]
    assert last["token"] == ""
    assert last["done_reason"] == "length"
    assert last["backend"] == last["routing"]["backend"]
    assert last["reason"]
    assert last["token_count"] == last["stats"]["tokens_generated"] == 8
    assert last["stats"]["energy_wh"] > 0
    assert last["total_time_ms"] >= last["ttft_ms"] > 0
    # Nothing is left of it: the same id may be used again.
    client.ask("a", options={"max_tokens": 2})
    assert len(client.read_all()) == 3


def test_without_stream_the_answer_is_one_message(connect: Callable[..., Client]) -> None:
    client = connect()
    client.send(model=MODEL, prompt="Say hello.", options={"max_tokens": 5})
    answer = client.read()
    assert answer["done"]
    assert answer["request_id"]
    assert len(answer["token"].split()) == 5


def test_a_chat_goes_by_messages(connect: Callable[..., Client]) -> None:
    client = connect()
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello!"}]
    client.send(request_id="c", model=MODEL, messages=turns, stream=True, options={"num_predict": 3})
    assert len(client.read_all()) == 4


def test_requests_run_side_by_side(connect: Callable[..., Client]) -> None:
    client = connect()
    targets = {"one": "ollama-nvidia", "two": "ollama-igpu", "three": "ollama-npu"}
    for request_id, target in targets.items():
        client.ask(request_id, annotations={"target": target}, options={"max_tokens": 150})
    order, backends = [], {}
    while len(backends) < len(targets):
        message = client.read()
        order.append(message["request_id"])
        if message["done"]:
            backends[message["request_id"]] = message["backend"]
    assert backends == targets
    # They took turns: far more changes from one to the other than one after the other would have.
    assert len(list(itertools.groupby(order))) > 10


def count_cancels(lab: LabProcess, name: str) -> int:
    """How many requests a device has seen cancelled, once those of tests before this one are among them."""
    wait_until(lambda: lab.state(name)["in_flight"] == 0, f"{name} to be idle")
    found: int = lab.state(name)["cancelled"]
    return found


def test_a_cancel_ends_one_request_and_stops_its_device(connect: Callable[..., Client], lab: LabProcess) -> None:
    client = connect()
    before = count_cancels(lab, "cpu")
    client.ask("long", annotations={"target": "ollama-cpu"}, options={"max_tokens": 4000})
    assert client.read()["request_id"] == "long"
    client.ask("other", annotations={"target": "ollama-igpu"}, options={"max_tokens": 40})
    client.send(type="cancel", request_id="long")
    ends = {}
    while len(ends) < 2:
        message = client.read()
        assert message["request_id"] not in ends
        if message["done"]:
            ends[message["request_id"]] = message
    assert ends["long"]["error"]["code"] == "cancelled"
    assert ends["other"]["token_count"] == 40
    wait_until(lambda: lab.state("cpu")["cancelled"] == before + 1, "the device to stop")
    # What has ended meanwhile needs no cancel, and hears of none.
    client.send(type="cancel", request_id="long")
    client.ask("next", options={"max_tokens": 1})
    assert {message["request_id"] for message in client.read_all()} == {"next"}


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_client_that_leaves_stops_all_its_devices(
    lab_proxy: ProxyProcess, lab: LabProcess, end: str, tmp_path: Path
) -> None:
    names = ("cpu", "igpu")
    before = {name: count_cancels(lab, name) for name in names}
    script = tmp_path / "client.py"
    script.write_text(
        "import json, sys, websocket\n"
        "socket = websocket.create_connection(sys.argv[1], timeout=20)\n"
        "for name in sys.argv[2:]:\n"
        f"    socket.send(json.dumps(dict(request_id=name, model={MODEL!r}, prompt='Hello!', stream=True,\n"
        "        annotations={'target': name}, options={'max_tokens': 8000})))\n"
        "seen = set()\n"
        "while len(seen) < len(sys.argv) - 2:\n"
        "    seen.add(json.loads(socket.recv())['request_id'])\n"
        "print('running', flush=True)\n"
        "sys.stdin.read()\n"
        "socket.close()\n"
    )
    command = [sys.executable, str(script), lab_proxy.url.replace("http:", "ws:") + PATH]
    command += [f"ollama-{name}" for name in names]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        if end == "closed":
            child.stdin.close()
        else:
            child.send_signal(signal.SIGKILL)
        for name in names:
            wait_until(lambda name=name: lab.state(name)["cancelled"] == before[name] + 1, f"{name} to stop")


class Torrent(http.server.BaseHTTPRequestHandler):
    """An Ollama server whose stream never ends: how much of it was taken shows who holds it back."""

    protocol_version = "HTTP/1.1"
    taken_bytes = 0

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        documents = {"/api/tags": {"models": [{"name": MODEL, "model": MODEL}]}, "/api/ps": {"models": []}}
        body = json.dumps(documents.get(self.path, {"version": "0.24.0"})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        line = json.dumps({"model": MODEL, "response": "word " * 4000, "done": False}).encode() + b"\n"
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(line)
                Torrent.taken_bytes += len(line)


def test_a_slow_reader_holds_its_backend_back(work: Path) -> None:
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Torrent) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        server.daemon_threads = True
        pool.submit(server.serve_forever, 0.05)
        entry = {"id": "torrent", "type": "ollama", "endpoint": f"http://127.0.0.1:{server.server_port}"}
        try:
            with ProxyProcess(work, changes={"backends": [entry], "routing": {"default_backend": "torrent"}}) as proxy:
                client = Client(proxy)
                client.ask("a")
                wait_until(lambda: stands_still(lambda: Torrent.taken_bytes), "the backend to wait")
                # What is on its way is in buffers of the kernel, and hardly anything of it in the proxy.
                assert psutil.Process(proxy.child.pid).memory_info().rss < 200 * 2**20
                before = Torrent.taken_bytes
                for _ in range(200):
                    assert len(client.read()["token"]) == 20_000
                wait_until(lambda: Torrent.taken_bytes > before, "the backend to go on")
                client.close()
        finally:
            server.shutdown()


def stands_still(count: Callable[[], int]) -> bool:
    """Whether a count that has begun stays the same for a while."""
    first = count()
    time.sleep(0.3)
    return first > 0 and count() == first


def test_ping_and_pong_by_frame_and_by_message(connect: Callable[..., Client]) -> None:
    client = connect()
    client.socket.ping("are you there")
    opcode, data = client.socket.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"are you there")
    client.send(type="ping", request_id="p")
    assert client.read() == {"type": "pong", "request_id": "p"}


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ("nonsense", "invalid_request", "invalid JSON"),
        ("[1]", "invalid_request", "JSON object"),
        ("{}", "invalid_request", "either a prompt or messages"),
        ('{"prompt":' * 100_000, "invalid_request", "invalid JSON"),
        ({"prompt": "x", "messages": []}, "invalid_request", "either a prompt or messages"),
        ({"prompt": ""}, "invalid_request", "must not be empty"),
        ({"prompt": "x", "model": ""}, "invalid_request", "model is required"),
        ({"prompt": "x", "model": 7}, "invalid_request", "$.model"),
        ({"prompt": "x", "options": {"top_p": 2}}, "invalid_request", "top_p"),
        ({"prompt": "x", "options": {"max_tokens": "many"}}, "invalid_request", "max_tokens"),
        ({"prompt": "x", "priority": "now"}, "invalid_request", "best-effort, low, normal"),
        ({"prompt": "x", "annotations": {"latency_critical": "perhaps"}}, "invalid_request", "true or false"),
        ({"prompt": "x", "model": "nope:1b"}, "model_not_found", "nope:1b"),
        ({"prompt": "x", "annotations": {"max_power_watts": 0.1}}, "limits_exclude_all", "0.1"),
        ({"type": "begin"}, "invalid_request", "request, cancel, ping"),
        ({"type": "cancel", "request_id": ""}, "invalid_request", "request_id"),
        ({"request_id": 7}, "invalid_request", "request_id must be"),
        ({"request_id": "x" * 129}, "invalid_request", "request_id must be"),
        ({"request_id": "line\nbreak"}, "invalid_request", "request_id must be"),
    ],
)
def test_a_bad_message_is_answered_and_the_talk_goes_on(
    connect: Callable[..., Client], message: str | dict[str, Any], code: str, words: str
) -> None:
    client = connect()
    if isinstance(message, dict):
        message = {"request_id": "bad", "model": MODEL, **message}
    client.socket.send(message if isinstance(message, str) else json.dumps(message))
    answer = client.read()
    assert answer["done"] is True
    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]
    if isinstance(message, dict):
        given = message["request_id"]
        assert answer["request_id"] == (given if isinstance(given, str) else "")
    client.ask("good", options={"max_tokens": 1})
    assert len(client.read_all()) == 2


def test_a_running_id_is_not_given_twice_and_requests_are_bounded(connect: Callable[..., Client]) -> None:
    client = connect()
    for number in range(64):
        client.ask(f"r{number}", annotations={"target": "ollama-cpu"}, options={"max_tokens": 4000})
    client.ask("r1")
    client.ask("one too many")
    errors = {}
    while len(errors) < 2:
        message = client.read()
        if "error" in message:
            errors[message["request_id"]] = message["error"]
    assert "under way" in errors["r1"]["message"]
    assert errors["one too many"]["code"] == "rate_limited"


def test_an_id_given_twice_leaves_the_first_request_alone(connect: Callable[..., Client]) -> None:
    client = connect()
    client.ask("twin", annotations={"target": "ollama-cpu"}, options={"max_tokens": 4000})
    assert client.read()["token"]
    client.ask("twin", options={"max_tokens": 1})
    while "error" not in (message := client.read()):
        assert not message["done"]
    assert message["request_id"] == "twin"
    assert message["error"]["code"] == "invalid_request"
    assert "'twin'" in message["error"]["message"]
    assert client.read()["token"]
    client.send(type="cancel", request_id="twin")
    while "error" not in (message := client.read()):
        assert message["token"]
    assert message["error"]["code"] == "cancelled"


def test_headers_of_the_handshake_are_defaults(connect: Callable[..., Client]) -> None:
    client = connect(header={"X-Target-Backend": "ollama-npu"})
    client.ask("a", options={"max_tokens": 1})
    assert client.read_all()[-1]["backend"] == "ollama-npu"
    client.ask("b", options={"max_tokens": 1}, annotations={"target": "ollama-cpu"})
    assert client.read_all()[-1]["backend"] == "ollama-cpu"
    client.ask("c", options={"max_tokens": 1, "routing": {"target": "ollama-igpu"}})
    assert client.read_all()[-1]["backend"] == "ollama-igpu"


def test_what_cannot_be_taken_closes_with_a_code(connect: Callable[..., Client]) -> None:
    client = connect()
    client.socket.send_binary(b"{}")
    assert client.read_close() == 1003
    client = connect()
    client.socket.send("x" * (4 * 1024 * 1024 + 1))
    assert client.read_close() == 1009
    client = connect()
    client.socket.send(json.dumps({"type": "ping", "pad": "x" * (4 * 1024 * 1024 - 100)}))
    assert client.read()["type"] == "pong"


def test_a_fragmented_message_is_one(connect: Callable[..., Client]) -> None:
    client = connect()
    text = json.dumps({"request_id": "f", "model": MODEL, "prompt": "Hello!", "options": {"max_tokens": 1}})
    pieces = [text[start : start + 9] for start in range(0, len(text), 9)]
    for number, piece in enumerate(pieces):
        opcode = websocket.ABNF.OPCODE_CONT if number else websocket.ABNF.OPCODE_TEXT
        client.socket.send_frame(websocket.ABNF.create_frame(piece, opcode, int(number == len(pieces) - 1)))
    assert client.read()["request_id"] == "f"


def test_who_asks_without_an_upgrade_or_badly_is_told_in_http(lab_proxy: ProxyProcess) -> None:
    url = lab_proxy.url + PATH
    assert http_get(url) == (426, "this is a WebSocket: ask for an upgrade\n")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for more, status, words in (
        ({"Origin": "http://elsewhere.example"}, 403, ""),
        ({"X-Priority": "now"}, 400, "priority"),
        ({"Sec-WebSocket-Key": "?"}, 400, "Sec-WebSocket-Key"),
        ({"Sec-WebSocket-Version": "12"}, 426, "13"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", lab_proxy.http_port, timeout=30)
        connection.request("GET", PATH, headers={**upgrade, **more})
        answer = connection.getresponse()
        assert answer.status == status
        assert words in answer.read().decode()
        connection.close()


def test_a_backend_that_dies_in_a_stream_is_an_error_and_no_end(
    connect: Callable[..., Client], lab: LabProcess
) -> None:
    client = connect()
    with lab.fault("npu", "cut", after_chunks=3):
        # Nobody else draws so little, so nobody can go on.
        client.ask("a", annotations={"max_power_watts": 5}, options={"max_tokens": 50})
        last = client.read_all()[-1]
    assert last["error"]["code"] == "backend_failed"
    assert last["backend"] == "ollama-npu"


def test_a_stop_lets_answers_end_and_says_going_away(lab: LabProcess, work: Path) -> None:
    proxy = ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed).start()
    idle, busy = Client(proxy), Client(proxy)
    try:
        busy.ask("a", annotations={"target": "ollama-nvidia"}, options={"max_tokens": 400})
        busy.read()
        proxy.child.process.send_signal(signal.SIGTERM)
        assert idle.read_close() == 1001
        assert busy.read_all()[-1]["token_count"] == 400
        assert busy.read_close() == 1001
    finally:
        idle.close()
        busy.close()
        assert proxy.stop() == 0

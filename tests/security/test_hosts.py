"""Names that were made to lead here, and pages of others: refused before anything is done, whatever they write."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Auth, Server
from tests.security.roles import AUTH, KEYS
from tests.support.running import quiet_config, running_proxy


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with running_proxy(quiet_config(Auth())) as found:
        yield found


def ask(proxy: Proxy, *lines: str, method: str = "POST", path: str = "/efficiency") -> int:
    """The status; `lines` are all header lines but the length's."""
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "Content-Length: 5", "Connection: close"])
    with socket.create_connection(("127.0.0.1", proxy.http_port), timeout=20) as client:
        client.sendall(f"{head}\r\n\r\nQuiet".encode("latin-1"))
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return int(answer.split()[1])


FOREIGN = """
    evil.example · evil.example:8080 · localhost.evil.example · 127.0.0.1.evil.example · 127.0.0.1.nip.io
    localhost@evil.example · user:pass@localhost · localhost/evil.example · localhost?evil · localhost#evil
    localhost:80:80 · localhost:x · [::1]evil · [::1]:x · [fe80::1%25eth0] · [fe80::1%eth0] · [2001:db8::1] · 8.8.8.8
    2130706433.evil.example · localhost evil.example · evil.example,localhost · http://localhost · \xe4.example · a b
    %6cocalhost.evil.example
"""


@pytest.mark.parametrize("host", [one.strip() for line in FOREIGN.strip().splitlines() for one in line.split("·")])
def test_a_foreign_name_is_refused(proxy: Proxy, host: str) -> None:
    assert ask(proxy, f"Host: {host}") in (400, 403)
    assert proxy.control.mode()[0] != "Quiet"


@pytest.mark.parametrize(
    "lines", [(), ("Host: localhost", "Host: localhost"), ("Host: localhost", "Host: evil.example")]
)
def test_one_name_and_no_more(proxy: Proxy, lines: tuple[str, ...]) -> None:
    assert ask(proxy, *lines) == 400
    assert proxy.control.mode()[0] != "Quiet"


def test_the_target_is_no_way_around_the_name(proxy: Proxy) -> None:
    assert ask(proxy, "Host: evil.example", path="http://localhost/efficiency") in (400, 403)
    assert ask(proxy, "Host: localhost", path="http://evil.example/efficiency") == 403
    assert ask(proxy, "Host: localhost", path="http://localhost.evil.example:80/efficiency") == 403
    assert ask(proxy, "Host: localhost", path="http://u@localhost/efficiency") == 400
    assert proxy.control.mode()[0] != "Quiet"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "null",
        "http://127.0.0.1.nip.io",
        "*",
    ],
)
def test_a_page_of_others_is_refused(proxy: Proxy, origin: str) -> None:
    assert ask(proxy, "Host: localhost", f"Origin: {origin}") == 403
    assert ask(proxy, "Host: localhost", f"Origin: {origin}", method="OPTIONS") == 403
    assert proxy.control.mode()[0] != "Quiet"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80", "my-box.local", "LOCALHOST"])
def test_a_name_of_this_machine_is_let_in(proxy: Proxy, host: str) -> None:
    assert ask(proxy, f"Host: {host}", method="GET", path="/api/tags") == 200


def test_a_page_that_may_ask_needs_a_key_like_all_others() -> None:
    server = Server(http_port=0, grpc_port=0, auth=AUTH, allowed_origins=("https://app.example",))
    with running_proxy(quiet_config(AUTH, server)) as proxy:
        mine = ("Host: localhost", "Origin: https://app.example")
        assert ask(proxy, *mine, method="OPTIONS", path="/api/tags") == 204
        assert ask(proxy, *mine, method="GET", path="/api/tags") == 401
        key = f"Authorization: Bearer {KEYS['infer']}"
        assert ask(proxy, *mine, key, method="GET", path="/api/tags") == 200
        assert ask(proxy, "Host: localhost", "Origin: https://evil.example", key, method="GET", path="/api/tags") == 403

"""TLS on both sides, with real certificates: who is let in, what is agreed, and what the errors say."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.tls import TlsError, make_client_context, make_server_context
from tests.support.http1 import echo, refuse

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates that sign themselves, each .pem and .key; that of `stranger` has another name."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("server", "client", "other", "stranger"):
        names = "DNS:example.org" if name == "stranger" else "DNS:localhost,IP:127.0.0.1"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def server_context(pems: Path, *, alpn: tuple[str, ...] = ("http/1.1",), client_ca: str = "") -> ssl.SSLContext:
    authority = pems / client_ca if client_ca else None
    return make_server_context(pems / "server.pem", pems / "server.key", client_ca_file=authority, alpn=alpn)


def serve(context: ssl.SSLContext, scene: Callable[[int], Awaitable[None]], limits: HttpLimits | None = None) -> None:
    async def run() -> None:
        server = HttpServer(echo, refuse, limits)
        listening = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0, ssl=context)
        try:
            async with asyncio.timeout(10):
                await scene(listening.sockets[0].getsockname()[1])
        finally:
            listening.close()
            await drain(server, 1)

    uvloop.run(run())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_requests_are_served_over_tls_on_one_connection(pems: Path, host: str) -> None:
    async def scene(port: int) -> None:
        pool = OriginPool(Origin(host, port, tls=True), tls=make_client_context(pems / "server.pem"))
        for _ in range(3):
            got = await fetch(pool, GET, 5)
            assert (got.status, bytes(got.body)) == (200, b"GET /a ")
        assert (pool.open, pool.idle) == (1, 1)
        pool.close()

    serve(server_context(pems), scene)


def test_a_body_larger_than_every_buffer_goes_both_ways(pems: Path) -> None:
    body = b"x" * 3_000_000

    async def scene(port: int) -> None:
        pool = OriginPool(Origin("localhost", port, tls=True), tls=make_client_context(pems / "server.pem"))
        got = await fetch(pool, b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 5)
        assert bytes(got.body) == b"POST /a " + body
        pool.close()

    serve(server_context(pems), scene)


@pytest.mark.parametrize("authority", ["other.pem", None])
def test_an_upstream_whose_certificate_nobody_vouches_for_is_not_spoken_to(pems: Path, authority: str | None) -> None:
    async def scene(port: int) -> None:
        context = make_client_context(pems / authority) if authority else None
        pool = OriginPool(Origin("localhost", port, tls=True), tls=context)
        with pytest.raises(FetchError, match="TLS failed") as caught:
            await fetch(pool, GET, 5)
        assert caught.value.failure.kind is FailureKind.UNREACHABLE
        assert pool.open == 0

    serve(server_context(pems), scene)


def test_the_name_must_be_that_of_the_certificate(pems: Path) -> None:
    async def scene(port: int) -> None:
        pool = OriginPool(Origin("localhost", port, tls=True), tls=make_client_context(pems / "stranger.pem"))
        with pytest.raises(FetchError, match="TLS failed"):
            await fetch(pool, GET, 5)

    serve(make_server_context(pems / "stranger.pem", pems / "stranger.key"), scene)


def test_the_context_of_a_pool_is_made_once(pems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(make_client_context(pems / "server.pem"))
        return made[-1]

    monkeypatch.setattr("ollama_proxy.net.http1.client.make_client_context", make)

    async def scene(port: int) -> None:
        pool = OriginPool(Origin("localhost", port, tls=True))
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(fetch(pool, GET, 5))
        assert pool.open == 5
        assert len(made) == 1
        pool.close()

    serve(server_context(pems), scene)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"),
        (["h2"], [], None),
    ],
)
def test_the_protocol_is_agreed_upon(pems: Path, ours: list[str], theirs: list[str], agreed: str | None) -> None:
    context = make_client_context(pems / "server.pem", alpn=theirs)

    async def scene(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
        writer.close()
        await writer.wait_closed()

    serve(server_context(pems, alpn=tuple(ours)), scene)


def test_only_clients_with_a_certificate_of_the_authority_are_let_in(pems: Path) -> None:
    def client_context(name: str) -> ssl.SSLContext:
        context = make_client_context(pems / "server.pem")
        if name:
            context.load_cert_chain(pems / f"{name}.pem", pems / f"{name}.key")
        return context

    async def scene(port: int) -> None:
        good = OriginPool(Origin("localhost", port, tls=True), tls=client_context("client"))
        assert (await fetch(good, GET, 5)).status == 200
        good.close()
        for name in ("other", ""):
            with pytest.raises(FetchError):
                await fetch(OriginPool(Origin("localhost", port, tls=True), tls=client_context(name)), GET, 5)

    serve(server_context(pems, client_ca="client.pem"), scene)


def test_old_versions_are_refused(pems: Path) -> None:
    old = make_client_context(pems / "server.pem")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("ALL:@SECLEVEL=0")

    async def scene(port: int) -> None:
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)

    serve(server_context(pems), scene)


def test_a_refused_client_reads_its_answer_over_tls(pems: Path) -> None:
    async def scene(port: int) -> None:
        context = make_client_context(pems / "server.pem")
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 1_000_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()

    serve(server_context(pems), scene, HttpLimits(body_bytes=1000))


def test_plain_http_on_a_tls_port_harms_nobody(pems: Path) -> None:
    async def scene(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b"HTTP/1.1 200" not in await reader.read()
        writer.close()
        pool = OriginPool(Origin("localhost", port, tls=True), tls=make_client_context(pems / "server.pem"))
        assert (await fetch(pool, GET, 5)).status == 200
        pool.close()

    serve(server_context(pems), scene)


@pytest.mark.parametrize(
    ("cert", "key", "authority", "told"),
    [
        ("none.pem", "server.key", None, "none.pem"),
        ("server.pem", "other.key", None, "mismatch"),
        ("server.key", "server.key", None, "server.key"),
        ("server.pem", "server.key", "none.pem", "none.pem"),
        ("server.pem", "server.key", "server.key", "server.key"),
    ],
)
def test_files_that_are_no_use_are_named(pems: Path, cert: str, key: str, authority: str | None, told: str) -> None:
    with pytest.raises(TlsError, match=told):
        make_server_context(pems / cert, pems / key, client_ca_file=pems / authority if authority else None)

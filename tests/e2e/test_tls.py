"""TLS on both ports, from the configuration: what is agreed, who is let in, what a bad file says."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest
import websocket

from ollama_proxy.config.key_file import hash_key, make_key
from tests.support.lab import LabProcess
from tests.support.processes import find_tool, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("openssl") or not shutil.which("curl"), reason="needs openssl and curl"),
]


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificates that sign themselves."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("server", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def make_proxy(work: Path, lab: LabProcess, pems: Path, **more: str) -> ProxyProcess:
    files = {"cert_file": str(pems / "server.pem"), "key_file": str(pems / "server.key"), **more}
    return ProxyProcess(work, lab.endpoints, changes={"server": {"tls": {"enabled": True, **files}}}, speed=lab.speed)


def show(pems: Path, port: int) -> str:
    """The name on the certificate that a port shows."""
    context = ssl.create_default_context(cafile=str(pems / "server.pem"))
    context.load_verify_locations(str(pems / "client.pem"))
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as one:
        [[(_, name)]] = one.getpeercert()["subject"]
        return str(name)


def test_a_certificate_that_is_renewed_is_shown_from_then_on(lab: LabProcess, work: Path, pems: Path) -> None:
    """Whoever is connected goes on with the old one."""
    files = {f"{part}_file": str(work / f"renewed.{end}") for part, end in (("cert", "pem"), ("key", "key"))}
    for end in ("pem", "key"):
        shutil.copy(pems / f"server.{end}", work / f"renewed.{end}")
    with make_proxy(work, lab, pems, **files) as proxy:
        before = ssl.create_default_context(cafile=str(pems / "server.pem"))
        kept = http.client.HTTPSConnection("localhost", proxy.http_port, timeout=20, context=before)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b"ok\n"
        assert show(pems, proxy.http_port) == "server"
        for end in ("pem", "key"):
            shutil.copy(pems / f"client.{end}", work / f"renewed.{end}")
        # The files are watched.
        wait_until(lambda: show(pems, proxy.http_port) == "client", "the other certificate")
        assert show(pems, proxy.grpc_port) == "client"
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b"ok\n"
        kept.close()
        (work / "renewed.pem").write_text("no certificate")
        wait_until(lambda: proxy.log_lines("nothing has changed: server.tls"), "the refusal")
        assert show(pems, proxy.http_port) == "client"


def curl(pems: Path, *arguments: str) -> tuple[int, str]:
    command = ["curl", "-sS", "--max-time", "20", "--cacert", str(pems / "server.pem"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def stream_over_websocket(proxy: ProxyProcess, pems: Path) -> None:
    url = f"wss://127.0.0.1:{proxy.http_port}/v1/stream/ws"
    web = websocket.create_connection(url, timeout=20, sslopt={"ca_certs": str(pems / "server.pem")})
    try:
        options = {"max_tokens": 5}
        web.send(json.dumps({"model": "qwen2.5:0.5b", "prompt": "Count", "stream": True, "options": options}))
        assert [json.loads(web.recv())["done"] for _ in range(6)] == [False] * 5 + [True]
        web.send_binary(b"no text")
        _, data = web.recv_data()
        assert int.from_bytes(data[:2], "big") == 1003
    finally:
        web.close(timeout=1)
        web.shutdown()


def test_http_grpc_and_streams_over_tls(work: Path, lab: LabProcess, pems: Path) -> None:
    body = json.dumps({"model": "qwen2.5:0.5b", "prompt": "Count", "options": {"num_predict": 20}})
    with make_proxy(work, lab, pems) as proxy:
        url = f"https://127.0.0.1:{proxy.http_port}"
        assert f"https://localhost:{proxy.http_port}" in proxy.child.text()
        for version, flag in (("2", "--http2"), ("1.1", "--http1.1")):
            code, text = curl(pems, flag, "-w", "%{http_version}", "-d", body, f"{url}/api/generate")
            *lines, spoken = text.splitlines()
            assert (code, spoken, json.loads(lines[-1])["done"]) == (0, version, True)
            assert len(lines) > 5
        stream_over_websocket(proxy, pems)
        _, status = curl(pems, "--http2", "-w", "%{http_code}", "-o", "/dev/null", f"{url}/v1/stream/ws")
        assert status == "426"
        grpcurl = find_tool("grpcurl")
        if grpcurl is not None:
            asked = ["-d", json.dumps({"prompt": "Hi", "model": "qwen2.5:0.5b"})]
            method = "compute.v1.ComputeService/Generate"
            for port in (proxy.grpc_port, proxy.http_port):
                command = [grpcurl, "-cacert", str(pems / "server.pem"), *asked, f"127.0.0.1:{port}", method]
                done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
                assert json.loads(done.stdout)["backendUsed"].startswith("ollama-")
        assert curl(pems, f"http://127.0.0.1:{proxy.http_port}/health")[0] != 0


def test_only_clients_of_the_authority_are_let_in(work: Path, lab: LabProcess, pems: Path) -> None:
    with make_proxy(work, lab, pems, client_ca_file=str(pems / "client.pem")) as proxy:
        url = f"https://127.0.0.1:{proxy.http_port}/health"
        assert curl(pems, url)[0] != 0
        code, text = curl(pems, "--cert", str(pems / "client.pem"), "--key", str(pems / "client.key"), url)
        assert code == 0
        assert "ollama-npu" in text


def test_a_file_that_is_no_use_is_named_and_nothing_is_served(work: Path, lab: LabProcess, pems: Path) -> None:
    missing = str(pems / "nobody.pem")
    proxy = make_proxy(work, lab, pems, cert_file=missing)
    with pytest.raises(AssertionError, match="exit code 2"):
        proxy.start()
    assert f"server.tls: cannot use {missing}" in proxy.child.text()


def test_a_certificate_in_place_of_a_key(work: Path, lab: LabProcess, pems: Path) -> None:
    """Whoever shows it is who the configuration says, over both protocols; a wrong key beside it opens nothing."""
    auth = {"enabled": True, "api_keys": {"bob": {"certificate": "localhost", "models": ["qwen2.5:*"]}}}
    tls = {"enabled": True, "cert_file": str(pems / "server.pem"), "key_file": str(pems / "server.key")}
    tls["client_ca_file"] = str(pems / "client.pem")
    mine = ["--cert", str(pems / "client.pem"), "--key", str(pems / "client.key")]
    status = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
    with ProxyProcess(work, lab.endpoints, changes={"server": {"tls": tls, "auth": auth}}, speed=lab.speed) as proxy:
        url = f"https://127.0.0.1:{proxy.http_port}/api/generate"
        for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
            for model, code in (("qwen2.5:0.5b", 200), ("llama3:7b", 403)):
                asked = ["-d", json.dumps({"model": model, "prompt": "hi", "options": {"num_predict": 2}})]
                assert curl(pems, flag, *mine, *asked, *status, url) == (0, f"{version} {code}")
            wrong = ["-H", "Authorization: Bearer ocp_wrong"]
            assert curl(pems, flag, *mine, *wrong, *asked, *status, url) == (0, f"{version} 401")
        assert '"key":"bob"' in proxy.child.text().replace(" ", "")


def test_a_certificate_of_no_key_opens_nothing(work: Path, lab: LabProcess, pems: Path) -> None:
    auth = {"enabled": True, "api_keys": {"bob": {"certificate": "somebody.else"}}}
    tls = {"enabled": True, "cert_file": str(pems / "server.pem"), "key_file": str(pems / "server.key")}
    tls["client_ca_file"] = str(pems / "client.pem")
    mine = ["--cert", str(pems / "client.pem"), "--key", str(pems / "client.key")]
    with ProxyProcess(work, lab.endpoints, changes={"server": {"tls": tls, "auth": auth}}, speed=lab.speed) as proxy:
        url = f"https://127.0.0.1:{proxy.http_port}/api/tags"
        assert curl(pems, *mine, "-o", "/dev/null", "-w", "%{http_code}", url) == (0, "401")


def test_a_certificate_and_a_key(work: Path, lab: LabProcess, pems: Path) -> None:
    """Mutual TLS says who may connect, the key who may ask: each is needed, on both ports."""
    key = make_key()
    auth = {"enabled": True, "api_keys": {"bob": {"key_hash": hash_key(key.encode())}}}
    tls = {"enabled": True, "cert_file": str(pems / "server.pem"), "key_file": str(pems / "server.key")}
    tls["client_ca_file"] = str(pems / "client.pem")
    with ProxyProcess(work, lab.endpoints, changes={"server": {"tls": tls, "auth": auth}}, speed=lab.speed) as proxy:
        url = f"https://127.0.0.1:{proxy.http_port}/api/tags"
        mine = ["--cert", str(pems / "client.pem"), "--key", str(pems / "client.key")]
        shown = ["-H", f"Authorization: Bearer {key}"]
        status = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
        for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
            assert curl(pems, flag, *mine, *shown, *status, url) == (0, f"{version} 200")
            assert curl(pems, flag, *mine, *status, url) == (0, f"{version} 401")
            assert curl(pems, flag, *shown, *status, url)[0] != 0
        assert curl(pems, "--tls-max", "1.1", *mine, *shown, url)[0] != 0
        names = ("server.pem", "client.key", "client.pem")
        authority, private, chain = [(pems / name).read_bytes() for name in names]
        for port in (proxy.grpc_port, proxy.http_port):
            credentials = grpc.ssl_channel_credentials(authority, private, chain)
            with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
                call = channel.unary_unary("/compute.v1.ComputeService/HealthCheck")
                assert call(b"", metadata=(("authorization", f"Bearer {key}"),), timeout=20)
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"", timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority)) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

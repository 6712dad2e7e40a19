"""Keys in the configuration: where they may be, what they may open, and that a public port needs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_proxy.config.checks import check_config
from ollama_proxy.config.key_file import changing, hash_key, make_key
from ollama_proxy.config.schema import ApiKey, Auth, Backend, Config, Server, Tls
from tests.unit.config.test_key_file import stored

KEY = make_key()
HASH = hash_key(KEY.encode())


def places(auth: Auth, host: str = "127.0.0.1", environ: dict[str, str] | None = None, **server: object) -> list[str]:
    backends = (Backend(id="gpu", endpoint="http://localhost:1"),)
    config = Config(server=Server(host=host, auth=auth, **server), backends=backends)
    return [one.where for one in check_config(config, {"XDG_STATE_HOME": "/nonexistent", **(environ or {})})]


@pytest.mark.parametrize(
    ("entry", "environ"),
    [
        (ApiKey(key_hash=HASH), {}),
        (ApiKey(key_hash=HASH.removeprefix("sha256:").upper()), {}),
        (ApiKey(key_env="BOBS_KEY"), {"BOBS_KEY": KEY}),
    ],
)
def test_one_good_key_opens_a_public_host(entry: ApiKey, environ: dict[str, str]) -> None:
    assert places(Auth(enabled=True, api_keys={"bob": entry}), "0.0.0.0", environ) == []
    assert places(Auth(enabled=False, api_keys={"bob": entry}), "0.0.0.0", environ) == ["server.host"]


def test_a_certificate_is_a_key_where_clients_show_them() -> None:
    auth = Auth(enabled=True, api_keys={"bob": ApiKey(certificate="bob.example")})
    assert places(auth, tls=Tls(enabled=True, cert_file="a", key_file="b")) == ["server.auth.api_keys.bob.certificate"]
    assert places(auth, "0.0.0.0", tls=Tls(enabled=True, cert_file="a", key_file="b", client_ca_file="c")) == []


def test_a_key_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "key"
    auth = Auth(enabled=True, api_keys={"bob": ApiKey(key_file=str(file))})
    assert places(auth) == ["server.auth.api_keys.bob.key_file"]
    file.write_text(KEY + "\n")
    assert places(auth, "0.0.0.0") == []


def test_a_key_of_the_command_line_opens_a_public_host_until_it_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    auth = Auth(enabled=True, keys_file=str(file))
    assert places(auth, "0.0.0.0") == ["server.host"]
    assert places(auth) == ["server.auth.enabled"]
    with changing(file) as keys:
        keys.append(stored("bob"))
    assert places(auth, "0.0.0.0") == []
    with changing(file) as keys:
        keys[0] = stored("bob", revoked_unix_s=5)
    assert places(auth, "0.0.0.0") == ["server.host"]
    file.write_text("{")
    assert places(auth, "0.0.0.0") == ["server.auth.keys_file"]


def test_a_public_host_without_keys_by_ones_own_word() -> None:
    assert places(Auth(), "0.0.0.0", allow_public_without_keys=True) == []


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        (ApiKey(), ""),
        (ApiKey(key_hash=HASH, key_env="A"), ""),
        (ApiKey(key_hash=HASH, certificate="bob.example"), ""),
        (ApiKey(certificate="bob.example"), ".certificate"),
        (ApiKey(key_hash=KEY), ".key_hash"),
        (ApiKey(key_hash=HASH[:-1]), ".key_hash"),
        (ApiKey(key_env=KEY), ".key_env"),
        (ApiKey(key_env="UNSET"), ".key_env"),
        (ApiKey(key_env="SHORT"), ".key_env"),
        (ApiKey(key_env="BLANKS"), ".key_env"),
        (ApiKey(key_file="/nonexistent/key"), ".key_file"),
        (ApiKey(key_hash=HASH, permissions=()), ".permissions"),
        (ApiKey(key_hash=HASH, permissions=("models",), models=("a",)), ".permissions"),
        (ApiKey(key_hash=HASH, permissions=("infer", "admin"), backends=("gpu",)), ".permissions"),
        (ApiKey(key_hash=HASH, backends=("npu",)), ".backends"),
        (ApiKey(key_hash=HASH, expires="2026-02-30"), ".expires"),
    ],
)
def test_a_key_that_cannot_be_meant(entry: ApiKey, where: str) -> None:
    environ = {"SHORT": "k" * 19, "BLANKS": "correct horse battery staple"}
    auth = Auth(enabled=True, api_keys={"bob": entry, "good": ApiKey(key_hash=HASH)})
    config = Config(server=Server(auth=auth), backends=(Backend(id="gpu", endpoint="http://localhost:1"),))
    problems = check_config(config, environ)
    assert [one.where for one in problems] == [f"server.auth.api_keys.bob{where}"]
    said = repr(problems)
    assert KEY not in said
    assert "horse" not in said

"""What types cannot say: who may connect, which names point where, and that no key is ever shown."""

from __future__ import annotations

import pytest

from ollama_proxy.config.checks import check_config, is_loopback
from ollama_proxy.config.load import parse_config
from ollama_proxy.config.problems import ConfigError, render_problems
from ollama_proxy.config.schema import ApiKey, Auth, Backend, Characteristics, Config, Pipelines, Routing, Server

A = Backend(id="a", endpoint="http://localhost:1")


def places(config: Config, environ: dict[str, str] | None = None) -> list[str]:
    """Where the checks find fault."""
    return [problem.where for problem in check_config(config, environ or {})]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.0.1", "::1", "localhost"])
def test_a_loopback_host_needs_no_keys(host: str) -> None:
    assert places(Config(server=Server(host=host))) == []


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "box.example", "", "127.0.0.1.example.com", "1270.0.1"]
)
def test_a_public_host_without_keys_is_refused_in_one_sentence(host: str) -> None:
    (problem,) = check_config(Config(server=Server(host=host)), {})
    assert problem.where == "server.host"
    assert "\n" not in problem.message


def test_a_key_that_is_off_opens_no_public_host() -> None:
    auth = Auth(enabled=True, api_keys={"bob": ApiKey(key_env="K", enabled=False)})
    assert "server.host" in places(Config(server=Server(host="0.0.0.0", auth=auth)), {"K": "x"})
    unused = Auth(enabled=False, api_keys={"bob": ApiKey(key_env="K")})
    assert "server.host" in places(Config(server=Server(host="0.0.0.0", auth=unused)), {"K": "x"})


def test_an_empty_key_opens_no_public_host() -> None:
    auth = Auth(enabled=True, api_keys={"bob": ApiKey()})
    assert "server.host" in places(Config(server=Server(host="0.0.0.0", auth=auth)))


def test_localhost_in_capitals_is_loopback() -> None:
    assert is_loopback("LocalHost")


def test_ports_that_clash() -> None:
    assert places(Config(server=Server(http_port=5, grpc_port=5))) == ["server.http_port"]
    assert places(Config(server=Server(http_port=0, grpc_port=0))) == []


def test_ids_are_one_whatever_their_case() -> None:
    assert places(Config(backends=(A, Backend(id="A", endpoint="x")))) == ["backends[1].id"]
    assert places(Config(backends=(Backend(id="embedded", endpoint="x"),))) == ["backends[0].id"]


def test_the_reserved_id_is_reserved_in_any_case() -> None:
    assert places(Config(backends=(Backend(id="Embedded", endpoint="x"),))) == ["backends[0].id"]


def test_the_default_backend_must_exist() -> None:
    (problem,) = check_config(Config(backends=(A,), routing=Routing(default_backend="b")), {})
    assert problem.where == "routing.default_backend"
    assert "enabled are a" in problem.message


def test_the_default_backend_must_be_on() -> None:
    off = Backend(id="a", endpoint="x", enabled=False)
    assert places(Config(backends=(off,), routing=Routing(default_backend="a"))) == ["routing.default_backend"]


def test_a_cap_under_which_nobody_may_run_names_the_nearest_that_lets_one() -> None:
    thirsty = Backend(id="b", endpoint="http://localhost:2", characteristics=Characteristics(power_watts=12))
    (problem,) = check_config(Config(backends=(A, thirsty), routing=Routing(system_cap_watts=11)), {})
    assert problem.where == "routing.system_cap_watts"
    assert problem.message.endswith("the least draw is 12 W")
    assert places(Config(backends=(A, thirsty), routing=Routing(system_cap_watts=12))) == []
    assert places(Config(backends=(A,), routing=Routing(system_cap_watts=12))) == ["routing.system_cap_watts"]


def test_a_variable_of_a_key_must_be_set_unless_its_backend_is_off() -> None:
    cloud = Backend(id="c", type="openai", endpoint="https://api.example.com", api_key_env="CLOUD_KEY")
    assert places(Config(backends=(cloud,))) == ["backends[0].api_key_env"]
    assert places(Config(backends=(cloud,)), {"CLOUD_KEY": "x"}) == []
    off = Backend(id="c", type="openai", endpoint="x", api_key_env="CLOUD_KEY", enabled=False)
    assert places(Config(backends=(off,))) == []


def test_pipelines_need_a_file() -> None:
    assert places(Config(pipelines=Pipelines(enabled=True))) == ["pipelines.config_file"]


@pytest.mark.parametrize(
    "config",
    [],
)
def test_a_setting_that_does_nothing_is_refused(config: Config) -> None:
    assert places(config)


KEY = "sk-live-0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"backends: [{{id: a, endpoint: x, api_key: {KEY}}}]",
        f"server: {{auth: {{api_keys: {{bob: {KEY}}}}}}}",
        f"server: {{auth: {{api_keys: {{bob: {{key: {KEY}}}}}}}}}",
        pytest.param(
            f"backends: [{{id: a, type: openai, endpoint: x, api_key_env: {KEY}}}]",
        ),
    ],
)
def test_a_key_written_into_the_file_is_refused_and_not_shown(text: str) -> None:
    try:
        config, _ = parse_config(text, "c.yaml")
        said = render_problems(check_config(config, {}), "c.yaml")
    except ConfigError as error:
        said = str(error)
    assert said
    assert KEY not in said


def test_no_hash_of_a_key_in_the_repr() -> None:
    assert "c0ffee" not in repr(ApiKey(key_hash="c0ffee"))


@pytest.mark.parametrize(
    ("kind", "words", "fine"),
    [
        ("openai", ("audio", "continuation"), True),
        ("anthropic", ("continuation",), True),
        ("anthropic", ("continuation", "audio"), False),
        ("ollama", ("continuation",), False),
    ],
)
def test_who_is_told_what_it_can_do(kind: str, words: tuple[str, ...], fine: bool) -> None:
    backend = Backend(id="a", type=kind, endpoint="http://localhost:1", capabilities=words)  # type: ignore[arg-type]
    assert ("backends[0].capabilities" not in places(Config(backends=(backend,)))) is fine

"""Variables win over the file, flags over both, and a wrong one is called by its own name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollama_proxy.config.load import Overrides, apply_overrides, endpoint_variable, find_config, load_config
from ollama_proxy.config.problems import ConfigError
from ollama_proxy.config.schema import ApiKey, Auth, Backend, Config, Server

NPU = Config(backends=(Backend(id="ollama-npu", endpoint="http://localhost:11434"),))


def load(tmp_path: Path, text: str, environ: dict[str, str], flags: Overrides | None = None) -> Config:
    """The configuration that a start would use."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(path, environ, flags)


def test_nothing_given_changes_nothing() -> None:
    assert apply_overrides(NPU, {}, Overrides()) == NPU
    assert apply_overrides(NPU, {"OLLAMA_PROXY_HTTP_PORT": "", "OLLAMA_NPU_ENDPOINT": ""}, Overrides()) == NPU


def test_a_key_whose_limits_are_left_out_goes_through() -> None:
    keys = {"free": ApiKey(key_env="A"), "bound": ApiKey(key_env="B", models=("m",), permissions=("infer",))}
    config = msgspec.structs.replace(NPU, server=Server(auth=Auth(enabled=True, api_keys=keys)))
    assert apply_overrides(config, {}, Overrides()) == config


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    text = "server: {grpc_port: 1, http_port: 2, host: localhost}"
    environ = {"OLLAMA_PROXY_GRPC_PORT": "3", "OLLAMA_PROXY_HTTP_PORT": "4"}
    server = load(tmp_path, text, environ, Overrides(grpc_port=5)).server
    assert server == Server(host="localhost", grpc_port=5, http_port=4)


def test_every_documented_variable_reaches_its_key() -> None:
    environ = {
        "OLLAMA_PROXY_HOST": "::1",
        "OLLAMA_PROXY_GRPC_PORT": "0",
        "OLLAMA_PROXY_HTTP_PORT": "8081",
        "OLLAMA_PROXY_LOG_LEVEL": "debug",
        "OLLAMA_NPU_ENDPOINT": "npu-box:9",
        "OLLAMA_PROXY_ALLOW_PUBLIC_WITHOUT_KEYS": "True",
    }
    config = apply_overrides(NPU, environ, Overrides())
    assert config.server == Server(host="::1", grpc_port=0, http_port=8081, allow_public_without_keys=True)
    assert config.monitoring.log_level == "debug"
    assert config.backends[0].endpoint == "npu-box:9"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("ollama-npu", "OLLAMA_NPU_ENDPOINT"),
        ("ollama-igpu", "OLLAMA_IGPU_ENDPOINT"),
        ("ollama-nvidia", "OLLAMA_NVIDIA_ENDPOINT"),
        ("ollama-cpu", "OLLAMA_CPU_ENDPOINT"),
        ("my-gpu.2", "OLLAMA_MY_GPU_2_ENDPOINT"),
    ],
)
def test_the_variable_of_a_backend(name: str, variable: str) -> None:
    assert endpoint_variable(name) == variable


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OLLAMA_PROXY_HTTP_PORT", "abc"),
        ("OLLAMA_PROXY_HTTP_PORT", "65536"),
        ("OLLAMA_PROXY_GRPC_PORT", "-1"),
        ("OLLAMA_PROXY_LOG_LEVEL", "loud"),
        pytest.param("OLLAMA_PROXY_HTTP_PORT", "9" * 5000),
        pytest.param("OLLAMA_PROXY_HOST", "0.0.0.0"),
        pytest.param("OLLAMA_NPU_ENDPOINT", "ftp://box"),
    ],
)
def test_a_wrong_variable_is_called_by_its_name(tmp_path: Path, variable: str, value: str) -> None:
    text = "server: {host: localhost}\nbackends: [{id: ollama-npu, endpoint: localhost}]"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, {variable: value})
    assert variable in str(caught.value)


@pytest.mark.parametrize("value", ["abc", "-1"])
def test_a_wrong_port_is_shown(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(NPU, {"OLLAMA_PROXY_HTTP_PORT": value}, Overrides())
    assert value in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (Overrides(log_level="loud"), "--log-level"),
        (Overrides(http_port=70000), "--http-port"),
        pytest.param(Overrides(host="0.0.0.0"), "--host"),
    ],
)
def test_a_wrong_flag_is_called_by_its_name(tmp_path: Path, flags: Overrides, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", {"OLLAMA_PROXY_LOG_LEVEL": "debug"}, flags)
    assert name in str(caught.value)


def test_a_good_flag_hides_a_wrong_variable() -> None:
    config = apply_overrides(NPU, {"OLLAMA_PROXY_HTTP_PORT": "x"}, Overrides(http_port=1))
    assert config.server.http_port == 1


def test_a_good_variable_mends_a_wrong_endpoint_in_the_file(tmp_path: Path) -> None:
    text = "backends: [{id: ollama-npu, endpoint: 'ftp://box'}]"
    assert load(tmp_path, text, {"OLLAMA_NPU_ENDPOINT": "box:1"}).backends[0].endpoint == "box:1"


def test_two_backends_cannot_share_a_variable(tmp_path: Path) -> None:
    text = "backends: [{id: ollama-a-b, endpoint: x}, {id: a.b, endpoint: y}]"
    with pytest.raises(ConfigError):
        load(tmp_path, text, {"OLLAMA_A_B_ENDPOINT": "z"})


def test_the_search_order(tmp_path: Path) -> None:
    here = tmp_path / "config" / "config.yaml"
    environ = {"OLLAMA_PROXY_CONFIG": "/from/variable.yaml"}
    assert find_config("/from/flag.yaml", environ, tmp_path) == Path("/from/flag.yaml")
    assert find_config(None, environ, tmp_path) == Path("/from/variable.yaml")
    beside = find_config(None, {}, tmp_path)
    assert beside.is_file()
    assert beside.parent != here.parent
    here.parent.mkdir()
    here.write_text("")
    assert find_config(None, {}, tmp_path) == here

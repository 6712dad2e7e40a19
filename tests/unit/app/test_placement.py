"""Where new models are brought: what is configured, what a request names, who is there."""

from __future__ import annotations

import pytest

from ollama_proxy.app.placement import Placement
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health
from ollama_proxy.domain.errors import ErrorKind, ProxyError


def fleet(**health: Health) -> FleetView:
    """Ollama servers npu, gpu-1, gpu-2 and a server of another kind."""
    specs = [
        BackendSpec("npu", "ollama", "NPU", "npu"),
        BackendSpec("gpu-1", "ollama", "GPU", "nvidia"),
        BackendSpec("gpu-2", "ollama", "GPU", "nvidia"),
        BackendSpec("vllm", "openai", "vLLM", "nvidia"),
    ]
    named = {name.replace("_", "-"): state for name, state in health.items()}
    return FleetView(1, tuple(BackendView(one, named.get(one.id, Health.HEALTHY), "down") for one in specs))


@pytest.mark.parametrize(
    ("setting", "default", "target", "expected"),
    [
        ("first", "", "", ("npu",)),
        ("first", "gpu-1", "", ("gpu-1",)),
        ("first", "vllm", "", ("npu",)),
        ("all", "gpu-1", "", ("npu", "gpu-1", "gpu-2")),
        (("gpu-2", "npu"), "gpu-1", "", ("npu", "gpu-2")),
        ("first", "", "gpu-2", ("gpu-2",)),
        ("first", "", "GPU-2, npu", ("npu", "gpu-2")),
        ("first", "", "nvidia", ("gpu-1", "gpu-2")),
        ("first", "", "nvidia,npu", ("npu", "gpu-1", "gpu-2")),
        ("first", "", "All", ("npu", "gpu-1", "gpu-2")),
    ],
)
def test_the_chosen(setting: str | tuple[str, ...], default: str, target: str, expected: tuple[str, ...]) -> None:
    assert Placement(setting, default).choose(fleet(), target) == expected


def test_who_is_down_is_passed_over_where_nobody_named_it() -> None:
    down = fleet(npu=Health.UNHEALTHY, gpu_1=Health.UNHEALTHY)
    assert Placement("first", "gpu-1").choose(down, "") == ("gpu-2",)
    assert Placement("all", "").choose(down, "") == ("gpu-2",)
    assert Placement("first", "").choose(down, "nvidia") == ("gpu-2",)
    with pytest.raises(ProxyError, match="no healthy Ollama backend: gpu-1: down") as caught:
        Placement("first", "").choose(down, "gpu-1")
    assert caught.value.kind is ErrorKind.NO_HEALTHY_BACKEND
    with pytest.raises(ProxyError, match="npu: down"):
        Placement(("npu",), "").choose(down, "")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nobody", "'nobody'.*known are npu, gpu-1, gpu-2, nvidia, all"),
        ("vllm", "vllm is no Ollama server"),
        ("cpu", "'cpu'"),
    ],
)
def test_what_is_not_there_is_refused(target: str, words: str) -> None:
    with pytest.raises(ProxyError, match=words) as caught:
        Placement("first", "").choose(fleet(), target)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_without_any_ollama_server() -> None:
    with pytest.raises(ProxyError, match="no Ollama backend is configured"):
        Placement("all", "").choose(FleetView(1, ()), "")

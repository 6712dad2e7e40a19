"""The gRPC dialect's own rules: options, annotations, codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ollama_proxy.api.compute.answers import CODES
from ollama_proxy.api.compute.requests import HeadFacts, read_annotations, read_generate, read_sampling
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from tests.support.processes import ROOT


def test_every_error_kind_has_a_code() -> None:
    assert set(CODES) == set(ErrorKind)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"context_length": -1}, "context_length"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ProxyError, match=named) as caught:
        read_sampling(compute_pb2.GenerationOptions(**options))
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_zero_leaves_the_models_own() -> None:
    sampling = read_sampling(compute_pb2.GenerationOptions())
    assert (sampling.num_predict, sampling.temperature, sampling.top_p, sampling.stop) == (None, None, None, None)


def test_a_prompt_must_be_there() -> None:
    with pytest.raises(ProxyError, match="prompt must not be empty"):
        read_generate(compute_pb2.GenerateRequest(model="m"), HeadFacts(()), "id", 0.0, stream=False)


def test_annotations_of_message_and_metadata_meet_and_metadata_wins() -> None:
    wishes = compute_pb2.JobAnnotations(target="npu", max_power_watts=15, custom={"priority": "high", "team": "x"})
    facts = HeadFacts((("x-target-backend", "cpu"), ("x-latency-critical", "yes"), ("key-bin", b"\0")))
    read = read_annotations(wishes, facts)
    assert (read.target, read.latency_critical, read.max_power_watts) == ("cpu", True, 15)
    assert read.priority is Priority.HIGH
    assert read.custom == {"priority": "high", "team": "x"}


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ProxyError, match="max_power_watts"):
        read_annotations(compute_pb2.JobAnnotations(max_power_watts=-1), HeadFacts(()))


def test_stubs_are_current(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"),
        *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "compute/v1/compute.proto"),
    ]
    subprocess.run(command, check=True, cwd=ROOT / "proto")
    for name in ("compute_pb2.py", "compute_pb2.pyi"):
        committed = ROOT / "src/ollama_proxy/api/gen/compute/v1" / name
        assert (tmp_path / "compute/v1" / name).read_text() == committed.read_text(), f"{name}: run bin/generate"

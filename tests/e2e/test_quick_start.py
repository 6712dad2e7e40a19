"""The guide's commands on the emulated fleet: each gives what the guide says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, find_tool, http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
METHOD = "compute.v1.ComputeService/"


def grpcurl(proxy: ProxyProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    binary = find_tool("grpcurl")
    if binary is None:
        pytest.skip("no grpcurl: bin/test installs one where Go is")
    split = 2 if arguments[0] == "-d" else 0
    command = [binary, "-plaintext", *arguments[:split], proxy.grpc, *arguments[split:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def generate(proxy: ProxyProcess, **request: Any) -> dict[str, Any]:
    done = grpcurl(proxy, "-d", json.dumps({"model": "qwen2.5:0.5b", **request}), METHOD + "Generate")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_health_prints_the_five_lines(lab_proxy: ProxyProcess) -> None:
    status, text = http_get(lab_proxy.url + "/health")
    assert status == 200
    assert text == (
        "Status: healthy\n  ollama-npu: healthy\n  ollama-igpu: healthy\n"
        "  ollama-nvidia: healthy\n  ollama-cpu: healthy\n"
    )


def test_backends_shows_each_with_its_characteristics(lab_proxy: ProxyProcess) -> None:
    text = http_get(lab_proxy.url + "/backends")[1]
    assert text.startswith("Available Backends:\n\nID: ollama-npu\n  Name: Ollama NPU (Intel Neural Processor)\n")
    assert "  Power: 55.0W\n" in text
    assert "  Device: emulated (lab)\n" in text
    document = json.loads(http_get(lab_proxy.url + "/backends", {"Accept": "application/json"})[1])
    assert [one["id"] for one in document["backends"]][2] == "ollama-nvidia"
    assert document["backends"][2]["power_watts"] == 55


def test_list_prints_exactly_three_names(lab_proxy: ProxyProcess) -> None:
    done = grpcurl(lab_proxy, "list")
    assert done.stdout.splitlines() == [
        "compute.v1.ComputeService",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]


def test_describe_knows_the_service_and_its_messages(lab_proxy: ProxyProcess) -> None:
    text = grpcurl(lab_proxy, "describe", "compute.v1.ComputeService").stdout
    assert (
        "rpc GenerateStream ( .compute.v1.GenerateRequest ) returns ( stream .compute.v1.GenerateStreamResponse );"
        in text
    )
    assert "int32 max_power_watts = 6;" in grpcurl(lab_proxy, "describe", "compute.v1.JobAnnotations").stdout


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, {"ollama-npu", "ollama-igpu", "ollama-nvidia"}),
        ({"target": "ollama-npu"}, {"ollama-npu"}),
        ({"target": "nvidia"}, {"ollama-nvidia"}),
        ({"latency_critical": True}, {"ollama-nvidia"}),
        ({"prefer_power_efficiency": True}, {"ollama-npu"}),
        ({"max_power_watts": 15}, {"ollama-igpu", "ollama-npu"}),
        ({"latency_critical": True, "prefer_power_efficiency": True}, {"ollama-nvidia"}),
    ],
)
def test_annotations_route_as_the_guide_says(
    lab_proxy: ProxyProcess, annotations: dict[str, Any], expected: set[str]
) -> None:
    answer = generate(lab_proxy, prompt="What is 2+2?", annotations=annotations)
    assert answer["backendUsed"] in expected
    assert answer["routing"]["backend"] == answer["backendUsed"]
    assert answer["routing"]["reason"]
    assert answer["response"]
    assert answer["stats"]["tokensGenerated"] > 0
    assert answer["stats"]["energyWh"] > 0


def test_larger_model_goes_to_its_target(lab_proxy: ProxyProcess) -> None:
    answer = generate(
        lab_proxy, prompt="Write a poem about AI", model="llama3:7b", annotations={"target": "ollama-nvidia"}
    )
    assert answer["backendUsed"] == "ollama-nvidia"


def test_stream_comes_in_pieces_and_ends_once(lab_proxy: ProxyProcess) -> None:
    request = {"prompt": "Count from 1 to 10", "model": "qwen2.5:0.5b", "annotations": {"target": "ollama-nvidia"}}
    done = grpcurl(lab_proxy, "-d", json.dumps(request), METHOD + "GenerateStream")
    pieces = [json.loads(text) for text in done.stdout.replace("}\n{", "}\0{").split("\0")]
    assert len(pieces) > 5
    assert [piece.get("done", False) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["stats"]["tokensGenerated"] == len(pieces) - 1


def test_unknown_target_lists_the_known(lab_proxy: ProxyProcess) -> None:
    done = grpcurl(
        lab_proxy,
        "-d",
        '{"prompt": "x", "model": "qwen2.5:0.5b", "annotations": {"target": "tpu"}}',
        METHOD + "Generate",
    )
    assert "InvalidArgument" in done.stderr
    assert "ollama-nvidia" in done.stderr


def test_go_client_of_the_guide_compiles_unchanged_and_runs(work: Path, lab: Any) -> None:
    if shutil.which("go") is None:
        pytest.skip("no go")
    binary = work / "client"
    subprocess.run(["go", "build", "-o", str(binary), "./examples/client.go"], cwd=ROOT, check=True, timeout=300)
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes={"server": {"grpc_port": 50051}}):
        done = subprocess.run([str(binary)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "=== Power-efficient ===\nBackend used: ollama-npu (3.0W)" in done.stdout
    assert "=== Latency-critical ===\nBackend used: ollama-nvidia" in done.stdout
    assert "Energy used: 0." in done.stdout

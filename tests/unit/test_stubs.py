"""The committed stubs are those of the contract."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.processes import find_tool

ROOT = Path(__file__).resolve().parents[2]
PROTO = "compute/v1/compute.proto"
MESSAGES: dict[str, Descriptor] = dict(compute_pb2.DESCRIPTOR.message_types_by_name)


def test_python_stubs_are_current(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-Iproto",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    subprocess.run([*command, f"proto/{PROTO}"], cwd=ROOT, check=True)
    for name in ("compute_pb2.py", "compute_pb2.pyi"):
        committed = ROOT / "src/ollama_proxy/api/gen/compute/v1" / name
        assert (tmp_path / "compute/v1" / name).read_text() == committed.read_text(), "run bin/generate"


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_go_stubs_carry_every_field(name: str) -> None:
    text = (ROOT / "api/gen/go/compute.pb.go").read_text()
    struct = re.search(rf"^type {name} struct \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    assert struct is not None
    tags = re.findall(r'protobuf:"\w+,(\d+),[\w,]+?,name=(\w+)', struct[1])
    assert {(int(number), field) for number, field in tags} == {
        (field.number, field.name) for field in MESSAGES[name].fields
    }


def test_go_stubs_carry_every_method() -> None:
    text = (ROOT / "api/gen/go/compute_grpc.pb.go").read_text()
    for service in compute_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f'"/{service.full_name}/{method.name}"' in text


def test_go_stubs_are_current(tmp_path: Path) -> None:
    plugins = [find_tool(name) for name in ("protoc-gen-go", "protoc-gen-go-grpc")]
    if None in plugins:
        pytest.skip("no protoc-gen-go")
    module = "module=github.com/daoneill/ollama-proxy"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto"]
    command += [f"--plugin={plugin}" for plugin in plugins]
    command += [f"--go_out={tmp_path}", f"--go_opt={module}", f"--go-grpc_out={tmp_path}", f"--go-grpc_opt={module}"]
    subprocess.run([*command, PROTO], cwd=ROOT, check=True)
    for name in ("compute.pb.go", "compute_grpc.pb.go"):
        assert (tmp_path / "api/gen/go" / name).read_text() == (ROOT / "api/gen/go" / name).read_text(), (
            "run bin/generate"
        )

"""Reflection lists three names and gives descriptors that a foreign implementation can use."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.net.grpc.reflection import Reflection
from tests.support.grpc_server import serve_grpc
from tests.support.processes import find_tool

FILE = compute_pb2.DESCRIPTOR.name
SERVICE = "compute.v1.ComputeService"
NAMES = [SERVICE, "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


def ask(**request: str) -> reflection_pb2.ServerReflectionResponse:
    return Response.FromString(Reflection((SERVICE,)).answer(Request(**request).SerializeToString()))


@pytest.mark.parametrize("argument", ["", "*"])
def test_the_list_has_three_names(argument: str) -> None:
    answer = ask(list_services=argument)
    assert [service.name for service in answer.list_services_response.service] == NAMES


@pytest.mark.parametrize("host", ["", "proxy.example"])
def test_an_answer_repeats_its_request(host: str) -> None:
    answer = ask(host=host, list_services="")
    assert answer.valid_host == host
    assert answer.original_request == Request(host=host, list_services="")


def files(answer: reflection_pb2.ServerReflectionResponse) -> list[FileDescriptorProto]:
    return [FileDescriptorProto.FromString(blob) for blob in answer.file_descriptor_response.file_descriptor_proto]


@pytest.mark.parametrize(
    "symbol", [SERVICE, "compute.v1.GenerateRequest", "compute.v1.JobAnnotations", "compute.v1.BackendInfo"]
)
def test_a_symbol_comes_with_the_file_that_has_it(symbol: str) -> None:
    (file,) = files(ask(file_containing_symbol=symbol))
    assert file.name == FILE


def test_a_file_builds_a_pool_of_the_same_services() -> None:
    pool = DescriptorPool()
    for file in files(ask(file_by_filename=FILE)):
        pool.Add(file)
    service = pool.FindServiceByName(SERVICE)
    assert [method.name for method in service.methods] == [
        method.name for method in compute_pb2.DESCRIPTOR.services_by_name["ComputeService"].methods
    ]


def test_every_field_has_its_json_name() -> None:
    (file,) = files(ask(file_by_filename=FILE))
    for message in file.message_type:
        ours = compute_pb2.DESCRIPTOR.message_types_by_name[message.name]
        names = {field.name: field.json_name for field in message.field}
        assert names == {field.name: field.json_name for field in ours.fields}


@pytest.mark.parametrize(
    "request_",
    [
        {"file_containing_symbol": "nobody.Knows"},
        {"file_containing_symbol": ""},
        {"file_by_filename": "nobody.proto"},
        {"all_extension_numbers_of_type": "nobody.Knows"},
    ],
)
def test_what_is_not_there_is_not_found(request_: dict[str, str]) -> None:
    answer = ask(**request_)
    assert answer.WhichOneof("message_response") == "error_response"
    assert answer.error_response.error_code == 5


@given(st.binary(max_size=60))
def test_whatever_can_be_read_gets_an_answer(message: bytes) -> None:
    try:
        Request.FromString(message)
    except DecodeError:
        return
    answer = Response.FromString(Reflection((SERVICE,)).answer(message))
    assert answer.WhichOneof("message_response")


def test_a_method_is_a_symbol() -> None:
    assert [file.name for file in files(ask(file_containing_symbol=f"{SERVICE}.Generate"))] == [FILE]


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_listed_service_can_be_described(name: str) -> None:
    # The tests import one of the two descriptors themselves; a program of its own shows what the product has.
    code = (
        "from ollama_proxy.net.grpc.reflection import Reflection\n"
        f"request = bytes([0x22, {len(name)}]) + {name.encode()!r}\n"
        "answer = Reflection(()).answer(request)\n"
        "raise SystemExit(0 if b'ServerReflectionInfo' in answer else 3)\n"
    )
    assert run_python(code) == 0


def run_python(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode


def grpcurl(*arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of grpcurl against a server with nothing but reflection and health."""
    binary = find_tool("grpcurl")
    if binary is None:
        pytest.skip("no grpcurl: bin/test installs one where Go is")

    async def run() -> tuple[int, list[str]]:
        async with serve_grpc({}, (SERVICE,)) as (_, port):
            command = (binary, "-plaintext", f"127.0.0.1:{port}", *arguments)
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            return process.returncode or 0, out.decode().splitlines()

    return asyncio.run(run())


def test_grpcurl_lists_three_names() -> None:
    assert grpcurl("list") == (0, NAMES)


def test_grpcurl_lists_the_methods() -> None:
    code, lines = grpcurl("list", SERVICE)
    assert code == 0
    assert f"{SERVICE}.GenerateStream" in lines


def test_grpcurl_describes_messages() -> None:
    code, lines = grpcurl("describe", "compute.v1.GenerateRequest")
    assert (code, lines[0]) == (0, "compute.v1.GenerateRequest is a message:")


def test_grpcurl_describes_methods() -> None:
    assert grpcurl("describe", f"{SERVICE}.Generate")[0] == 0

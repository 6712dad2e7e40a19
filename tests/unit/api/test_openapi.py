"""The OpenAPI document says what there is: every route, every member that is read, and nothing besides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from ollama_proxy.api.anthropic import typed as anthropic
from ollama_proxy.api.openai import typed as openai
from ollama_proxy.api.openapi.build import build
from ollama_proxy.api.responses import typed as responses
from ollama_proxy.api.status import build_status_app
from ollama_proxy.app.apis import build_apis
from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Config
from ollama_proxy.domain import annotations
from tests.support.processes import ROOT

DOCUMENT: dict[str, Any] = json.loads((ROOT / "src/ollama_proxy/api/openapi/openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
METHODS = ("get", "head", "post", "put", "delete")
OPERATIONS = {
    (method, path): operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
}


def test_the_document_is_current() -> None:
    assert build() == (ROOT / "src/ollama_proxy/api/openapi/openapi.json").read_bytes(), "run bin/generate"


def collect_routes() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Methods and paths that are served; methods and beginnings of paths."""

    async def ask() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        proxy = Proxy(Config())
        exact, begun = set(), set()
        for api in build_apis(proxy):
            for table, found in ((api.routes, exact), (api.prefixes, begun)):
                found |= {(method.decode().lower(), path.decode()) for path in table for method in table[path]}
        for route in build_status_app(proxy.control).routes:
            assert isinstance(route, Route)
            exact |= {(method.lower(), route.path) for method in route.methods or ()}
        await proxy.stop()
        return exact, begun

    return asyncio.run(ask())


def test_every_route_is_documented_and_no_other() -> None:
    exact, begun = collect_routes()
    assert exact <= set(OPERATIONS)
    for method, path in set(OPERATIONS) - exact:
        assert any(method == one and path.startswith(beginning) for one, beginning in begun), f"no {method} {path}"
    for method, beginning in begun:
        assert any(method == one and path.startswith(beginning) for one, path in OPERATIONS), f"no {method} {beginning}"


def members(name: str) -> set[str]:
    schema = SCHEMAS[name]
    found = set(schema.get("properties", ()))
    for part in schema.get("allOf", ()):
        found |= members(part["$ref"].rpartition("/")[2]) if "$ref" in part else set(part["properties"])
    return found


def read_members(decoder: msgspec.json.Decoder[Any]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(decoder.type)}


def test_all_that_is_read_of_typed_requests_is_documented() -> None:
    read = read_members(openai._requests)
    assert read <= members("OpenAiChatRequest") | members("OpenAiCompletionRequest")
    assert read_members(openai._embed_requests) <= members("OpenAiEmbeddingsRequest")
    assert read_members(responses._requests) <= members("ResponsesRequest")
    assert read_members(anthropic._requests) <= members("AnthropicRequest")


def test_every_annotation_is_documented_in_bodies_and_in_headers() -> None:
    own = SCHEMAS["Routing"]["properties"]
    assert set(own) == {*annotations._READERS, "custom"}
    headers = {name.lower().encode(): part for name, part in DOCUMENT["components"]["parameters"].items()}
    # The one is another word for `X-Max-Latency-Ms`, the other is no annotation.
    assert headers.keys() - {b"x-request-id"} == annotations._HEADERS.keys() - {b"x-deadline-ms"}
    for name, words in (
        ("media_type", annotations.MEDIA_TYPES),
        ("latency_metric", annotations.LATENCY_METRICS),
        ("on_infeasible", annotations.ON_INFEASIBLE),
        ("power_scope", annotations.POWER_SCOPES),
        ("continuation", annotations.CONTINUATION),
    ):
        header = next(header for header, key in annotations._HEADERS.items() if key == name)
        assert own[name]["enum"] == headers[header]["schema"]["enum"] == list(words)


def find_references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(find_references, part.values()))
    return set().union(*map(find_references, part)) if isinstance(part, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    references = find_references(DOCUMENT)
    for reference in references:
        part: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            part = part[key]
    unused = {f"#/components/schemas/{name}" for name in SCHEMAS} - references
    assert not unused


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_an_operation_tells_its_errors(method: str, path: str) -> None:
    operation = OPERATIONS[method, path]
    assert operation["summary"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    if "requestBody" in operation:
        assert {"400", "401", "403"} <= set(operation["responses"]), "what is sent can be wrong"

"""Builds `openapi.json` from `sources/` and the code: `python -m ollama_proxy.api.openapi.build`, in `bin/generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

import ollama_proxy
from ollama_proxy.api.openapi import go_schemas, proto_schemas
from ollama_proxy.api.openapi.operations import Operations

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[3]
#: Of the dialects, in the order of the page.
_SOURCES = ("ollama", "openai", "responses", "anthropic", "compute", "decisions", "cache", "vector_stores", "pages")
Json = dict[str, Any]


def build() -> bytes:
    """The document."""
    common = _load("common")
    document: Json = {
        "openapi": "3.1.0",
        "info": {**common["info"], "version": ollama_proxy.__version__},
        "servers": common["servers"],
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "tags": [],
        "paths": {},
        "components": common["components"],
    }
    schemas: Json = document["components"]["schemas"]
    schemas.update({name: go_schemas.make_schema(kind) for name, kind in go_schemas.REQUESTS.items()})
    schemas.update(proto_schemas.make_schemas(proto_schemas.compile_contract(_ROOT / "proto")))
    for name in _SOURCES:
        source = _load(name)
        document["tags"] += source["tags"]
        schemas.update(source["schemas"])
        operations = Operations(name, source["error"], document["components"])
        for path, item in source["paths"].items():
            document["paths"][path] = {
                key: value if key == "parameters" else operations.write(value) for key, value in item.items()
            }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _load(name: str) -> Json:
    found: Json = yaml.safe_load((_HERE / "sources" / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    (_HERE / "openapi.json").write_bytes(build())

"""The reference page and the JSON Schema, from the types: `python -m ollama_proxy.config.reference` in the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ollama_proxy.config.schema import json_schema

ROOT = Path(__file__).resolve().parents[3]
SCHEMA_FILE = ROOT / "config" / "config.schema.json"
PAGE_FILE = ROOT / "docs" / "configuration.md"

_INTRO = """# Configuration

The file is `config/config.yaml`; another is named with `--config FILE` or `OLLAMA_PROXY_CONFIG`.
Unknown keys are errors with the line and the nearest name. `ollama-proxy check FILE` looks at a file without starting.
The JSON Schema is `config/config.schema.json`.

Environment over file, flags over both: `OLLAMA_PROXY_HOST`, `OLLAMA_PROXY_GRPC_PORT`, `OLLAMA_PROXY_HTTP_PORT`,
`OLLAMA_PROXY_LOG_LEVEL`, `OLLAMA_PROXY_PROMETHEUS_PORT`, `OLLAMA_PROXY_EMBEDDED`,
`OLLAMA_PROXY_ALLOW_PUBLIC_WITHOUT_KEYS`, and for each backend
`OLLAMA_<ID>_ENDPOINT` (`ollama-npu` is `OLLAMA_NPU_ENDPOINT`); `-config`, `-host`, `-grpc-port`, `-http-port`,
`-log-level`, `--take-over`, `--validate-config`, `--version`, with one or two dashes.

Who may do what, with keys and TLS: [security.md](security.md).

Answers that are kept for requests which come again: [caching.md](caching.md).

| key | default | meaning |
|---|---|---|
"""


def write_page() -> str:
    """The page: one row a key."""
    schema: Any = json.loads(json.dumps(json_schema()))
    rows: list[str] = []
    _add_rows(schema, schema["$defs"]["Config"], "", rows)
    return _INTRO + "\n".join(rows) + "\n"


def _add_rows(schema: Any, section: Any, path: str, rows: list[str]) -> None:
    for key, value in section["properties"].items():
        inner = f"{path}.{key}" if path else key
        target = _target(schema, value)
        if target is not None:
            if target[0] and "description" in value:
                rows.append(_row(inner + target[0], value))
            _add_rows(schema, target[1], inner + target[0], rows)
        else:
            rows.append(_row(inner, value))


def _row(path: str, value: Any) -> str:
    default = json.dumps(value["default"]) if "default" in value else "required"
    return f"| `{path}` | `{default}` | {_describe(value)} |"


def _target(schema: Any, value: Any) -> tuple[str, Any] | None:
    """The section behind a key, and what stands between: `[]` for lists, `.<name>` for tables."""
    for suffix, part in (
        ("", value),
        ("[]", value.get("items", {})),
        (".<name>", value.get("additionalProperties", {})),
    ):
        if isinstance(part, dict) and (reference := _reference(part)):
            return suffix, schema["$defs"][reference]
    return None


def _reference(part: Any) -> str:
    parts = [part, *part.get("anyOf", ())]
    return next((one["$ref"].rsplit("/", 1)[-1] for one in parts if "$ref" in one), "")


def _describe(value: Any) -> str:
    words = [value["description"]] if "description" in value else []
    if "enum" in value:
        words.append("one of " + ", ".join(f"`{word}`" for word in value["enum"]))
    elif isinstance(value.get("items"), dict) and "enum" in value["items"]:
        words.append("any of " + ", ".join(f"`{word}`" for word in value["items"]["enum"]))
    elif not words:
        words.append({"array": "list", "boolean": "yes or no", "string": "text"}.get(value.get("type", ""), "number"))
    return "; ".join(words)


def main() -> None:
    """Write both files."""
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n")
    PAGE_FILE.write_text(write_page())


if __name__ == "__main__":
    main()

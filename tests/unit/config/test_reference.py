"""What is generated from the schema is current, and the shipped file agrees with it."""

from __future__ import annotations

import json

import jsonschema
import yaml

from ollama_proxy.config.reference import PAGE_FILE, SCHEMA_FILE, write_page
from ollama_proxy.config.schema import json_schema
from tests.support.processes import ROOT


def test_schema_file_is_current() -> None:
    assert SCHEMA_FILE.read_text() == json.dumps(json_schema(), indent=2) + "\n"


def test_page_is_current() -> None:
    assert PAGE_FILE.read_text() == write_page()


def test_shipped_file_is_valid() -> None:
    shipped = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    jsonschema.validate(shipped, json.loads(SCHEMA_FILE.read_text()))

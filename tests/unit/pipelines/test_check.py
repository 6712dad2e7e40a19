"""Files of pipelines: what is wrong is told with its place and with what was possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_proxy.config.pipeline_file import check_pipelines, load_pipelines
from ollama_proxy.config.schema import Pipelines
from ollama_proxy.pipelines.check import read_pipelines
from tests.support.processes import ROOT

EXAMPLES = sorted((ROOT / "examples" / "pipelines").glob("*.yaml"))
WRITE = {"id": "write", "type": "generate", "prompt": "{{input.q}}"}


def faults(*stages: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    found = read_pipelines({"pipelines": [{"id": "p", "inputs": ["q"], "stages": list(stages), **more}]})
    assert not (found[0] and found[1])
    return found[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(path: Path) -> None:
    assert load_pipelines(Pipelines(enabled=True, config_file=str(path)))


STEPS = [{"model": "a"}, {"model": "b"}]


@pytest.mark.parametrize(
    ("stage", "where", "told"),
    [
        ({"id": "a", "type": "generat", "prompt": "x"}, "type", "did you mean 'generate'?"),
        ({"id": "a", "prompt": "x"}, "", "type is missing; it is one of generate, escalate"),
        ({"id": "a", "type": "generate", "promt": "x"}, ".promt", "unknown key; did you mean 'prompt'?"),
        ({"id": "a", "type": "generate"}, "", "missing required field prompt"),
        ({"id": "a", "type": "generate", "prompt": "{{input.x}}"}, "prompt", "there is no 'input.x' at this point"),
        ({"id": "a", "type": "generate", "prompt": "{{a}}"}, "prompt", "there is no 'a' at this point"),
        ({"id": "a", "type": "generate", "prompt": "{{write|x}}"}, "prompt", "is no place"),
        (
            {"id": "a", "type": "generate", "prompt": "x", "annotations": {"max_power_watts": "lots"}},
            "annotations",
            "max",
        ),
        ({"id": "write", "type": "generate", "prompt": "x"}, "id", "the id of another stage"),
        ({"id": "end", "type": "generate", "prompt": "x"}, "id", "has a meaning of its own"),
        ({"id": "a b", "type": "generate", "prompt": "x"}, "id", "match"),
        ({"id": "a", "type": "branch", "when": {"contains": ["x"]}}, "", "leads nowhere"),
        ({"id": "a", "type": "branch", "when": {}, "then": "end"}, "when", "asks for nothing"),
        ({"id": "a", "type": "branch", "when": {"has": ["x"]}, "then": "end"}, "when.has", "unknown key"),
        (
            {"id": "a", "type": "branch", "when": {"min_chars": 1}, "then": "write"},
            "then",
            "is not a later stage, or end",
        ),
        ({"id": "a", "type": "rerank", "of": "nobody", "query": "x", "model": "m"}, "of", "is not an earlier stage"),
        ({"id": "a", "type": "cache", "key": "x", "keep": "write"}, "keep", "is not a later stage"),
        ({"id": "a", "type": "escalate", "prompt": "x", "steps": STEPS[:1], "accept": {"min_words": 1}}, "steps", "2"),
        ({"id": "a", "type": "escalate", "prompt": "x", "steps": STEPS, "accept": {}}, "accept", "asks for nothing"),
        ({"id": "a", "type": "generate", "prompt": "x", "budget": {"joules": -1}}, "joules", ">= 0"),
    ],
)
def test_a_fault_is_told_at_its_place(stage: dict[str, Any], where: str, told: str) -> None:
    found = faults(WRITE, stage)
    assert found
    place, message = found[0]
    assert place.startswith("pipelines[0].stages[1]")
    assert where in place
    assert told in message


def test_pipelines_have_different_names_and_known_places_in_their_outputs() -> None:
    one = {"id": "p", "inputs": ["q"], "stages": [WRITE]}
    assert "another pipeline" in read_pipelines({"pipelines": [one, one]})[1][0][1]
    assert "did you mean 'write'?" in faults(WRITE, outputs={"x": "{{wrote}}"})[0][1]
    assert faults(WRITE, outputs={"x": "{{write}}"}) == []
    assert "unknown key" in read_pipelines({"pipelines": [{**one, "steps": []}]})[1][0][1]
    assert read_pipelines([])[1]


def test_the_configuration_tells_file_and_line(tmp_path: Path) -> None:
    assert check_pipelines(Pipelines()) == []
    assert "is needed" in check_pipelines(Pipelines(enabled=True))[0].message
    path = tmp_path / "p.yaml"
    config = Pipelines(enabled=True, config_file=str(path))
    assert "no such file" in check_pipelines(config)[0].message
    path.write_text(yaml.safe_dump({"pipelines": [{"id": "p", "stages": [{**WRITE, "model": 3}]}]}, sort_keys=False))
    assert check_pipelines(config)[0].message.startswith(f"{path}:7: pipelines[0].stages[0].model: expected str")

"""Whether pipelines make sense: what their types cannot say, each fault with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.pipelines.condition import Condition
from ollama_proxy.pipelines.stages import (
    END,
    Branch,
    Cache,
    Embed,
    Escalate,
    Generate,
    Pipeline,
    PipelineFile,
    Rerank,
    Retrieve,
    Stage,
    read_annotations,
)
from ollama_proxy.pipelines.template import list_places

_KINDS = {kind.__struct_config__.tag: kind for kind in (Generate, Escalate, Embed, Retrieve, Rerank, Cache, Branch)}
#: Names that stages cannot have: they mean something else where stages are named.
_RESERVED = (END, "input")
#: Where something is wrong (`pipelines[0].stages[1].prompt`), and what.
Fault = tuple[str, str]


def read_pipelines(data: Any) -> tuple[tuple[Pipeline, ...], list[Fault]]:
    """The pipelines of a file's plain data; with faults, none."""
    try:
        pipelines = msgspec.convert(data, PipelineFile).pipelines
    except msgspec.ValidationError as error:
        return (), [_describe(error, data)]
    faults = list(_check_all(pipelines))
    return ((), faults) if faults else (pipelines, [])


def _check_all(pipelines: Sequence[Pipeline]) -> Iterator[Fault]:
    seen: set[str] = set()
    for place, pipeline in enumerate(pipelines):
        where = f"pipelines[{place}]"
        if pipeline.id in seen:
            yield f"{where}.id", f"{pipeline.id!r} is the id of another pipeline as well"
        seen.add(pipeline.id)
        yield from _check_pipeline(pipeline, where)


def _check_pipeline(pipeline: Pipeline, where: str) -> Iterator[Fault]:
    ids = [stage.id for stage in pipeline.stages]
    for place, stage in enumerate(pipeline.stages):
        here = f"{where}.stages[{place}]"
        if stage.id in ids[:place]:
            yield f"{here}.id", f"{stage.id!r} is the id of another stage as well"
        if stage.id in _RESERVED:
            yield f"{here}.id", f"{stage.id!r} has a meaning of its own; choose another id"
        known = [*(f"input.{name}" for name in pipeline.inputs), *ids[:place]]
        yield from _check_stage(stage, known, ids[:place], ids[place + 1 :], here)
    known = [*(f"input.{name}" for name in pipeline.inputs), *ids]
    for name, template in pipeline.outputs.items():
        yield from _check_template(template, known, f"{where}.outputs.{name}")


def _check_stage(stage: Stage, known: list[str], before: list[str], after: list[str], where: str) -> Iterator[Fault]:
    yield from _check_annotations(stage.annotations, where)
    for name in ("prompt", "system", "text", "query", "key"):
        template = getattr(stage, name, None)
        if template:
            yield from _check_template(template, known, f"{where}.{name}")
    match stage:
        case Escalate():
            yield from _check_condition(stage.accept, [], f"{where}.accept")
            for place, step in enumerate(stage.steps):
                yield from _check_annotations(step.annotations, f"{where}.steps[{place}]")
        case Rerank():
            yield from _check_name(stage.of, before, f"{where}.of", "an earlier stage")
        case Cache():
            yield from _check_name(stage.keep, after, f"{where}.keep", "a later stage")
            yield from _check_name(stage.then, [*after, END], f"{where}.then", "a later stage, or end")
        case Branch():
            yield from _check_condition(stage.when, before, f"{where}.when")
            if not stage.when.of and not before:
                yield f"{where}.when", "there is no earlier stage whose text it could be about"
            for name in ("then", "otherwise"):
                target = getattr(stage, name)
                if target:
                    yield from _check_name(target, [*after, END], f"{where}.{name}", "a later stage, or end")
            if not (stage.then or stage.otherwise):
                yield where, "leads nowhere; name a stage in then or otherwise"
        case _:
            pass


def _check_name(name: str, known: list[str], where: str, what: str) -> Iterator[Fault]:
    if name not in known:
        yield where, f"{name!r} is not {what}{_list(name, known)}"


def _check_template(template: str, known: list[str], where: str) -> Iterator[Fault]:
    try:
        names = list_places(template)
    except ValueError as error:
        yield where, str(error)
        return
    for name in names:
        if name not in known:
            yield where, f"there is no {name!r} at this point{_list(name, known)}"


def _check_condition(condition: Condition, before: list[str], where: str) -> Iterator[Fault]:
    if condition.is_empty:
        yield where, "asks for nothing, so that it always holds"
    if condition.of:
        yield from _check_name(condition.of, before, f"{where}.of", "an earlier stage")


def _check_annotations(pairs: Any, where: str) -> Iterator[Fault]:
    try:
        read_annotations(pairs)
    except ProxyError as error:
        yield f"{where}.annotations", error.message


def _list(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; there is none"


def _describe(error: msgspec.ValidationError, data: Any) -> Fault:
    """msgspec's message with the words that were possible."""
    text, _, place = str(error).partition(" - at `$")
    where = place.rstrip("`").removeprefix(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown is not None:
        kind = _find_kind(where, data)
        fields = list(kind.__struct_encode_fields__) if kind is not None else []
        inner = f"{where}.{unknown.group(1)}" if where else unknown.group(1)
        return inner, "unknown key" + _list(unknown.group(1), fields)
    if where.endswith(".type"):
        word = text.removeprefix("Invalid value ")
        return where, f"{word} is no kind of stage{_list(word.strip(chr(39)), [str(one) for one in _KINDS])}"
    if text == "Object missing required field `type`":
        return where, f"type is missing; it is one of {', '.join(str(one) for one in _KINDS)}"
    return where, text.replace("`", "")[:1].lower() + text.replace("`", "")[1:]


def _find_kind(where: str, data: Any) -> type[msgspec.Struct] | None:
    """The type of the object at a place, as far as its known members would help."""
    if re.fullmatch(r"", where):
        return PipelineFile
    if re.fullmatch(r"pipelines\[\d+\]", where):
        return Pipeline
    if where.endswith((".when", ".accept", ".not")) or re.search(r"\.any\[\d+\]$", where):
        return Condition
    found = re.fullmatch(r"pipelines\[(\d+)\]\.stages\[(\d+)\]", where)
    if found is None:
        return None
    kind = data["pipelines"][int(found.group(1))]["stages"][int(found.group(2))]["type"]
    return _KINDS.get(kind)

"""YAML text to plain data, strictly, with the line of every key.

PyYAML's composed nodes carry line numbers. Aliases, duplicate keys and absurd sizes are refused here, before any type
is looked at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from ollama_proxy.config.problems import ConfigError, Problem

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32
_FAST: Any = getattr(yaml, "CSafeLoader", None)

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")

Lines = dict[str, int]


def read_text(path: Path) -> str:
    """The file's text. Raises `ConfigError` in one sentence."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        message = "no such file"
    except IsADirectoryError:
        message = "is a folder, not a file"
    except PermissionError:
        message = "cannot be read: permission denied"
    except UnicodeDecodeError:
        message = "is not UTF-8 text"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise ConfigError([Problem("", message)], str(path))


def read_document(text: str, source: str) -> tuple[Any, Lines]:
    """Data and the line of each path (`backends[0].id`). Raises `ConfigError`."""
    if len(text.encode("utf-8", "replace")) > _MAX_BYTES:
        raise ConfigError([Problem("", f"the file is larger than {_MAX_BYTES} bytes")], source)
    try:
        node = _compose(text, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        message = f"not valid YAML: {error.problem or error.context or 'syntax error'}"
        raise ConfigError([Problem("", message, mark.line + 1 if mark else 0)], source) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([Problem("", f"not valid YAML: {str(error).splitlines()[0][:200]}")], source) from None
    if node is None:
        return {}, {}
    lines: Lines = {}
    problems: list[Problem] = []
    data = _build(node, "", lines, problems)
    if data is None:
        return {}, lines
    if problems:
        raise ConfigError(problems[:10], source)
    return data, lines


def _compose(text: str, source: str) -> yaml.Node | None:
    """The tree: by the parser in C, which takes a tenth of the time, unless it finds fault or is not there. The other
    one says more clearly what is wrong.
    """
    if _FAST is not None:
        try:
            _refuse_hostile(text, source, _FAST)
            return yaml.compose(text, Loader=_FAST)
        except yaml.YAMLError:
            pass
    _refuse_hostile(text, source, yaml.SafeLoader)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _refuse_hostile(text: str, source: str, loader: Any) -> None:
    """What nothing here needs and a parser can be hurt with: aliases, tags, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        message = ""
        if isinstance(event, yaml.AliasEvent):
            message = "aliases (*name) are not allowed; write the value out"
        elif getattr(event, "tag", None) is not None:
            message = "tags (!name) are not allowed; write the plain value"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            message = f"nested deeper than {_MAX_DEPTH} levels" if depth > _MAX_DEPTH else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if message:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise ConfigError([Problem("", message, line)], source)


def _build(node: yaml.Node, path: str, lines: Lines, problems: list[Problem]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, lines, problems)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, f"{path}[{index}]", lines, problems) for index, item in enumerate(node.value)]
    return _build_scalar(node, path, problems)


def _build_mapping(node: yaml.MappingNode, path: str, lines: Lines, problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            problems.append(Problem(path, "a key must be a plain word", line))
            continue
        inner = f"{path}.{key}" if path else key
        if key in found:
            problems.append(Problem(inner, "given twice", line))
        lines[inner] = line
        found[key] = _build(value_node, inner, lines, problems)
    return found


def _build_scalar(node: yaml.Node, path: str, problems: list[Problem]) -> Any:
    if node.tag == "tag:yaml.org,2002:int" and not _DECIMAL.fullmatch(str(node.value)):
        # YAML 1.1 reads 0123 as 83 and 1:30 as 90; whoever wrote that meant neither.
        problems.append(Problem(path, "write the number in plain digits", node.start_mark.line + 1))
        return None
    try:
        return SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        problems.append(Problem(path, "cannot be read as a YAML value", node.start_mark.line + 1))
        return None

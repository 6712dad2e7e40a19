"""Whatever stands in the file, the loader answers with a configuration or with sentences that name the place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.config.load import parse_config, read_text
from ollama_proxy.config.problems import ConfigError, Problem, render_problems
from ollama_proxy.config.schema import Config

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "config.yaml"
UNTIMED = settings(max_examples=200, deadline=None, database=None)
SECTIONS = "server, embedded, backends, routing, cache, health, monitoring, thermal, efficiency, pipelines"


def bug(reason: str) -> pytest.MarkDecorator:
    """A fault known today; strict, so that its mend takes this mark away."""
    return pytest.mark.xfail(strict=True, reason=reason)


def complaint(text: str) -> str:
    """What the loader says about a text it must refuse."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c.yaml")
    return str(caught.value)


def problems(text: str) -> tuple[Problem, ...]:
    """What the loader finds; any error but its own goes through."""
    try:
        parse_config(text, "c.yaml")
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "{}", "server:\nhealth:\n", "backends:\n", "\ufeffserver: {}"]
)
def test_a_file_that_says_nothing_means_the_defaults(text: str) -> None:
    assert parse_config(text, "c.yaml")[0] == Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "c.yaml:1: the file must hold keys and values"),
        ("hello", "c.yaml:1: the file must hold keys and values"),
        ("server:\n\thost: x\n", "c.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("server: {}\n---\nserver: {}\n", "c.yaml:2: not valid YAML: but found another document"),
        ("server: {}\nserver: {}\n", "c.yaml:2: server: given twice"),
        ("server:\n  host: a\n  host: b\n", "c.yaml:3: server.host: given twice"),
        ("server: *x\n", "c.yaml:1: aliases (*name) are not allowed; write the value out"),
        ("&a [*a]\n", "c.yaml:1: aliases (*name) are not allowed; write the value out"),
        ("? [a]\n: b\n", "c.yaml:1: a key must be a plain word"),
        ("bogus: 1\n", f"c.yaml:1: bogus: unknown key; known are {SECTIONS}"),
        ("\n\nserver:\n  hst: a\n", 'c.yaml:4: server.hst: unknown key; did you mean "host"?'),
        ("server:\n  tls:\n    enable: no\n", 'c.yaml:3: server.tls.enable: unknown key; did you mean "enabled"?'),
        ("server:\n  http_port: 65536\n", "c.yaml:2: server.http_port: expected int <= 65535"),
        ("server:\n  http_port: -1\n", "c.yaml:2: server.http_port: expected int >= 0"),
        ("server:\n  http_port: '80'\n", "c.yaml:2: server.http_port: expected int, got str"),
        ("server:\n  http_port: true\n", "c.yaml:2: server.http_port: expected int, got bool"),
        ("server:\n  http_port: 80.5\n", "c.yaml:2: server.http_port: expected int, got float"),
        ("server:\n  host: 2020-13-45\n", "c.yaml:2: server.host: cannot be read as a YAML value"),
        ("server:\n  host: !!python/name:os.system ''\n", "c.yaml:2: server.host: cannot be read as a YAML value"),
        ("health:\n  interval_seconds: .nan\n", "c.yaml:2: health.interval_seconds: expected float > 0.0"),
        ("monitoring:\n  log_level: loud\n", "c.yaml:2: monitoring.log_level: invalid enum value 'loud'"),
        ("backends:\n  - id: a\n", "c.yaml:2: backends[0]: object missing required field endpoint"),
        ("backends:\n  - endpoint: x\n", "c.yaml:2: backends[0]: object missing required field id"),
    ],
)
def test_a_refusal_names_line_place_and_fault(text: str, said: str) -> None:
    assert complaint(text) == said


def test_every_unknown_key_is_told_up_to_ten() -> None:
    text = "server:\n  hst: 1\nserve: {}\nbackends:\n  - id: a\n    endpoint: localhost\n    charcteristics: {}\n"
    assert [line.split(": ")[1] for line in complaint(text).splitlines()] == [
        "server.hst",
        "serve",
        "backends[0].charcteristics",
    ]
    assert len(complaint("".join(f"k{number}: 1\n" for number in range(30))).splitlines()) == 10


def misspelt_keys() -> list[tuple[int, str]]:
    """Line number and key of every line of the shipped file that has a key."""
    found = []
    for number, line in enumerate(SHIPPED.read_text().splitlines(), 1):
        if match := re.match(r"\s*(?:- )?([a-z_]+):", line):
            found.append((number, match[1]))
    return found


@pytest.mark.parametrize(("number", "key"), misspelt_keys())
def test_a_slip_in_any_key_of_the_shipped_file_is_found_and_mended(number: int, key: str) -> None:
    lines = SHIPPED.read_text().splitlines()
    lines[number - 1] = lines[number - 1].replace(f"{key}:", f"{key}x:", 1)
    assert f"c.yaml:{number}: " in complaint("\n".join(lines))
    assert f'{key}x: unknown key; did you mean "{key}"?' in complaint("\n".join(lines))


@given(st.text())
@UNTIMED
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    assert all(problem.message for problem in problems(text))


FRAGMENTS = [
    "server",
    "backends",
    ":",
    ": ",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!!str ",
    "|",
    "'",
    '"',
]


@given(st.lists(st.sampled_from([*FRAGMENTS, "id", "host", "~", "1", "<<", "? ", "%", "---", "#", "\t", "!", "@"])))
@UNTIMED
def test_any_heap_of_yaml_marks_is_a_configuration_or_a_config_error(parts: list[str]) -> None:
    assert all(problem.message for problem in problems("".join(parts)))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("!!int ''", marks=bug("document.py:_build_scalar lets IndexError out")),
        pytest.param("!!float _", marks=bug("document.py:_build_scalar lets IndexError out")),
        pytest.param("!!bool maybe", marks=bug("document.py:_build_scalar lets KeyError out")),
        pytest.param("!!timestamp soon", marks=bug("document.py:_build_scalar lets AttributeError out")),
        "!!int abc",
        "!!float abc",
        "9" * 5000,
    ],
)
def test_a_value_that_belies_its_tag_is_a_problem_of_that_line(value: str) -> None:
    assert complaint(f"server:\n  http_port: {value}\n") == "c.yaml:2: server.http_port: cannot be read as a YAML value"


@bug("document.py: depth is looked at only after composing; 1000 levels cost a second, 100 000 minutes")
def test_depth_is_refused_before_the_text_is_composed() -> None:
    assert "nested deeper than 32 levels" in complaint("[" * 1000 + "]" * 1000)


@bug("document.py:24: text.encode() raises UnicodeEncodeError")
def test_a_text_with_a_lone_surrogate_is_a_config_error() -> None:
    assert complaint("server: \ud800")


@bug("load.py: msgspec stops at its first fault")
def test_every_wrong_value_is_told() -> None:
    text = "server:\n  http_port: 99999\n  grpc_port: x\nhealth:\n  interval_seconds: -1\n"
    assert len(complaint(text).splitlines()) == 3


@bug("load.py: parse_config returns before types are looked at when a key is unknown")
def test_a_wrong_value_is_told_beside_an_unknown_key() -> None:
    assert len(complaint("server:\n  http_port: 99999\n  hst: x\n").splitlines()) == 2


@bug("load.py:_describe: msgspec writes [...] for the key of a dict, so name and line are lost")
def test_a_fault_in_a_key_entry_names_the_entry_and_its_line() -> None:
    text = "server:\n  auth:\n    api_keys:\n      bob:\n        permissions: [infr]\n"
    assert complaint(text).startswith("c.yaml:5: server.auth.api_keys.bob.permissions[0]: ")


@pytest.mark.parametrize("text", ["---\n", "~\n", "server:\n  tls:\n"])
@bug("load.py:_drop_empty looks at the top level only, and a document of null is no mapping")
def test_nothing_behind_a_colon_means_defaults_at_every_level(text: str) -> None:
    assert parse_config(text, "c.yaml")[0] == Config()


@pytest.mark.parametrize("text", ["http_port: 0123", "http_port: 1:30"])
@bug("YAML 1.1 reads 0123 as 83 and 1:30 as 90; the user meant neither")
def test_a_port_in_octal_or_base_sixty_is_refused(text: str) -> None:
    assert complaint(f"server: {{{text}}}")


@pytest.mark.parametrize(
    "text",
    ["health: {interval_seconds: .inf}", "backends: [{id: a, endpoint: b, characteristics: {power_watts: .inf}}]"],
)
@bug("schema.py: gt/ge alone let infinity through")
def test_infinity_is_no_number_of_seconds_or_watts(text: str) -> None:
    assert complaint(text)


@bug("schema.py: `$` matches before a newline at the end; the id goes into an answer header")
def test_an_id_cannot_end_in_a_newline() -> None:
    assert complaint('backends: [{id: "a\\n", endpoint: localhost}]')


def test_an_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes("server: {}".encode("utf-16"))
    for path, said in (
        (tmp_path / "absent.yaml", "no such file"),
        (tmp_path, "is a folder, not a file"),
        (binary, "is not UTF-8 text"),
        (tmp_path / ("n" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_text(path)
        assert str(caught.value) == f"{path}: {said}"


def test_a_file_over_the_size_limit_is_refused_and_one_under_it_is_not() -> None:
    assert complaint("#" + "x" * 1024 * 1024) == "c.yaml: the file is larger than 1048576 bytes"
    assert parse_config("#" + "x" * 1000 * 1000, "c.yaml")[0] == Config()


def test_a_problem_is_rendered_with_what_is_known_of_its_place() -> None:
    assert render_problems([Problem("a.b", "wrong", 7)], "c.yaml") == "c.yaml:7: a.b: wrong"
    assert render_problems([Problem("a.b", "wrong")], "c.yaml") == "c.yaml: a.b: wrong"
    assert render_problems([Problem("", "wrong")]) == "wrong"

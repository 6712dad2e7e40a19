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
SECTIONS = ", ".join(Config.__struct_fields__)


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
        (
            "server:\n  host: !!python/name:os.system ''\n",
            "c.yaml:2: tags (!name) are not allowed; write the plain value",
        ),
        ("health:\n  interval_seconds: .nan\n", "c.yaml:2: health.interval_seconds: expected float > 0.0"),
        (
            "monitoring:\n  log_level: loud\n",
            "c.yaml:2: monitoring.log_level: 'loud' is none of debug, info, warning, error",
        ),
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


@pytest.mark.parametrize("value", ["!!int ''", "!!float _", "!!bool maybe", "!!timestamp soon", "!!int abc", "!foo x"])
def test_a_tag_is_refused_with_its_line(value: str) -> None:
    assert complaint(f"server:\n  http_port: {value}\n").startswith("c.yaml:2: tags (!name) are not allowed")


def test_a_number_of_absurd_length_is_a_problem_of_its_line() -> None:
    assert complaint(f"server:\n  http_port: {'9' * 5000}\n").startswith("c.yaml:2: server.http_port: ")


def test_depth_is_refused_before_the_text_is_composed() -> None:
    assert "nested deeper than 32 levels" in complaint("[" * 1000 + "]" * 1000)


def test_a_text_with_a_lone_surrogate_is_a_config_error() -> None:
    assert complaint("server: \ud800")


def test_a_wrong_value_is_told_beside_an_unknown_key() -> None:
    assert len(complaint("server:\n  http_port: 99999\n  hst: x\n").splitlines()) == 2


@pytest.mark.parametrize("text", ["---\n", "~\n", "server:\n  tls:\n"])
def test_nothing_behind_a_colon_means_defaults_at_every_level(text: str) -> None:
    assert parse_config(text, "c.yaml")[0] == Config()


@pytest.mark.parametrize("text", ["http_port: 0123", "http_port: 1:30"])
def test_a_port_in_octal_or_base_sixty_is_refused(text: str) -> None:
    assert complaint(f"server: {{{text}}}")


@pytest.mark.parametrize(
    "text",
    ["health: {interval_seconds: .inf}", "backends: [{id: a, endpoint: b, characteristics: {power_watts: .inf}}]"],
)
def test_infinity_is_no_number_of_seconds_or_watts(text: str) -> None:
    assert complaint(text)


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("backends: [{id: a, endpoint: http://x, hardware: tpu}]", "'tpu' is none of npu, igpu, nvidia, cpu, cloud"),
        ("server: {auth: {api_keys: {bob: {permissions: [fly]}}}}", "'fly' is none of infer, models, admin"),
        ("efficiency: {default_mode: warp}", "'warp' is none of Performance, Balanced, Efficiency, Quiet, Auto"),
    ],
)
def test_a_word_that_is_none_of_those_allowed_is_told_with_them(text: str, words: str) -> None:
    assert words in complaint(text)

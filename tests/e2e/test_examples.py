"""Every program in `examples/` runs against the proxy and says what it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, find_tool
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

EXAMPLES = ROOT / "examples"
#: What a chat's words look like, whatever they are.
WORDS = r"\w+( \S+)+"

OLLAMA = [r"^Models: .*qwen2\.5:0\.5b", rf"^Chat: {WORDS}", r"^Embed: 2 vectors of \d+ numbers"]
OPENAI = [rf"^Chat: {WORDS}", r"^Answered by ollama-\w+ - \w+", rf"^Stream: {WORDS}", r"^[1-9]\d* tokens"]
ANTHROPIC = [rf"^Message: {WORDS}", rf"^Stream: {WORDS}", r"^[1-9]\d* tokens"]
GRPC = [rf"^Generate: {WORDS}", r"^Answered by ollama-\w+ - \w+", rf"^Stream: {WORDS}", r"^[1-9]\d* tokens"]
WEBSOCKET = [
    rf"^quick: ['\"]{WORDS}['\"] from ollama-\w+ in \d+ ms",
    rf"^frugal: ['\"]{WORDS}['\"] from ollama-\w+ in \d+ ms",
    r"^endless: ended with cancelled",
]


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """What a program prints. It must end well, and say nothing on the side."""
    env = {key: value for key, value in os.environ.items() if key not in ("OLLAMA_HOST", "PYTHONPATH")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, cwd=folder, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def check(output: str, expected: list[str]) -> None:
    for pattern in expected:
        assert re.search(pattern, output, re.MULTILINE), f"{pattern} is not in:\n{output}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ollama_chat", [*OLLAMA, rf"^Generate: {WORDS}"]),
        ("openai_chat", [*OPENAI, r"^Embeddings: 2 vectors of \d+ numbers"]),
        ("anthropic_chat", ANTHROPIC),
        ("grpc_generate", [*GRPC, r"^ollama-cpu: healthy, 28 W"]),
        ("websocket_stream", WEBSOCKET),
    ],
)
def test_python(lab_proxy: ProxyProcess, name: str, expected: list[str]) -> None:
    address = lab_proxy.grpc if name.startswith("grpc") else lab_proxy.url
    check(run(sys.executable, EXAMPLES / "python" / f"{name}.py", address), expected)


def test_all_python_examples_are_run() -> None:
    names = {path.stem for path in (EXAMPLES / "python").glob("*.py")}
    assert names == {"ollama_chat", "openai_chat", "anthropic_chat", "grpc_generate", "websocket_stream"}


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Node with the packages, and a copy of the examples beside them."""
    tool = find_tool("node-clients")
    if tool is None:
        pytest.skip("no node-clients: bin/test installs them where node and npm are")
    modules = run(tool, "-p", "process.env.NODE_PATH").strip()
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copytree(EXAMPLES / "typescript", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(modules)
    return tool, folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ollama", OLLAMA),
        ("openai", OPENAI),
        ("anthropic", ANTHROPIC),
        ("grpc", GRPC),
        ("websocket", WEBSOCKET),
    ],
)
def test_typescript(lab_proxy: ProxyProcess, typescript: tuple[str, Path], name: str, expected: list[str]) -> None:
    node, folder = typescript
    arguments = [lab_proxy.grpc, str(ROOT / "proto")] if name == "grpc" else [lab_proxy.url]
    check(run(node, "--import", "tsx", f"{name}.ts", *arguments, folder=folder), expected)


def test_typescript_types(typescript: tuple[str, Path]) -> None:
    node, folder = typescript
    run(node, "node_modules/typescript/bin/tsc", folder=folder)


def test_go(lab_proxy: ProxyProcess, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("no go")
    run("go", "build", "-o", tmp_path / "stream", "./examples/go")
    output = run(tmp_path / "stream", "-addr", lab_proxy.grpc)
    check(output, [rf"^{WORDS}", r"^[1-9]\d* tokens from ollama-\w+", r"^Stopped after one token"])


def test_curl(lab_proxy: ProxyProcess) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    output = run("sh", EXAMPLES / "curl" / "tour.sh", lab_proxy.url)
    expected = [
        r"^Status: healthy",
        r'"done":\s*true',
        r"(?i)^x-backend-used: ollama-",
        r'"chat\.completion"',
        r"^data: \[DONE\]",
        r'"type":\s*"message"',
        r'"backendUsed":\s*"ollama-',
        r'"error":.*0\.5',
    ]
    check(output, expected)

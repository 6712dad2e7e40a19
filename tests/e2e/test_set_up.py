"""The set-up behind the two commands: done once, repaired when interrupted, harmless to what it finds.

The installer is a stand-in that lends this interpreter's packages, so that nothing here needs the network; the
scripts, the virtual environments and the programs started are the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Child, free_port, wait_until

pytestmark = pytest.mark.e2e
INTERPRETER = os.path.realpath(sys.executable)
FILES = ("uv.lock", "pyproject.toml", "bin")
INSTALLER = """#!/bin/sh
if [ "$1" = --version ]; then exit; fi
echo "$UV_PROJECT_ENVIRONMENT $*" >>"$CALLS"
for folder in "$UV_PROJECT_ENVIRONMENT"/lib/python3*/site-packages; do echo "$LENT" >"$folder/lent.pth"; done
"""
KILLED = """#!/bin/sh
if [ "$1" = --version ]; then exit; fi
touch "$UV_PROJECT_ENVIRONMENT/half"
kill -9 "$PPID"
"""
#: To install pip takes all but a tenth of the time that an environment takes.
WITHOUT_PIP = """\
import sys
if sys.orig_argv[1:3] == ["-m", "venv"]:
    sys.argv.append("--without-pip")
"""
#: A Python that says of itself how many microseconds it takes.
TIMED = """#!/bin/sh
case "$*" in
    *sys.executable*) echo "$0" ;;
    *process_time*) echo {us} ;;
    *) exec "{interpreter}" "$@" ;;
esac
"""
UNFIT = (
    "ollama-proxy: Python 3.11 or newer is needed (PYTHON=/bin/false is not); "
    "install it, or name it with PYTHON=/path/to/python3"
)


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Machine:
    """A folder with a checkout's scripts in it, an installer of its own, and an environment of its own, with pip in it
    or not."""

    def __init__(self, folder: Path, *, pip: bool = False) -> None:
        self.folder = folder
        self.root = folder / "checkout"
        self.root.mkdir()
        for name in FILES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.root / name)
        self.venv = folder / "venv"
        self.calls = folder / "calls.txt"
        self.calls.touch()
        self.tools = folder / "tools"
        write_script(self.tools / "uv", INSTALLER)
        self.env = {
            "HOME": str(folder),
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "PYTHON": INTERPRETER,
            "OLLAMA_PROXY_VENV": str(self.venv),
            "OLLAMA_PROXY_NO_TOOLS": "1",
            "CALLS": str(self.calls),
            "LENT": sysconfig.get_path("purelib"),
            "PIP_NO_INDEX": "1",
        }
        if not pip:
            (folder / "site").mkdir()
            (folder / "site" / "sitecustomize.py").write_text(WITHOUT_PIP)
            self.env["PYTHONPATH"] = str(folder / "site")

    def script(self) -> list[str]:
        """The set-up alone, as both commands call it."""
        text = 'set -eu; root=$1; . "$root/bin/environment.sh"; set_up_environment run'
        return ["sh", "-c", text, "sh", str(self.root)]

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(command) or self.script(),
            env={**self.env, **changes},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def installs(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Set up for both commands, once for the tests that only start things."""
    machine = Machine(tmp_path_factory.mktemp("ready"), pip=True)
    assert machine.run(str(ROOT / "bin/ollama-proxy"), "--version").returncode == 0
    return machine


def test_second_start_installs_nothing_and_says_nothing(machine: Machine) -> None:
    first = machine.run()
    assert first.returncode == 0, first.stderr
    assert first.stderr.startswith("Setting up")
    second = machine.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(machine.installs()) == 1


@pytest.mark.parametrize("name", ["uv.lock", "pyproject.toml"])
def test_changed_lock_is_installed(machine: Machine, name: str) -> None:
    machine.run()
    with (machine.root / name).open("a") as file:
        file.write("# changed\n")
    assert machine.run().returncode == 0
    assert len(machine.installs()) == 2


def test_first_starts_at_once_install_once(machine: Machine) -> None:
    if shutil.which("flock", path="/usr/bin:/bin") is None:
        pytest.skip("no flock")
    starts = [Child(machine.script(), machine.folder / f"{n}.txt", machine.env) for n in range(3)]
    assert [start.process.wait(60) for start in starts] == [0, 0, 0]
    assert len(machine.installs()) == 1


def test_environment_without_interpreter_is_made_again(machine: Machine) -> None:
    machine.run()
    (machine.venv / "bin" / "python").unlink()
    assert machine.run().returncode == 0
    assert len(machine.installs()) == 2
    assert (machine.venv / "bin" / "python").exists()


def test_interrupted_set_up_leaves_nothing_half_done(machine: Machine) -> None:
    write_script(machine.tools / "uv", KILLED)
    assert machine.run().returncode == -signal.SIGKILL
    write_script(machine.tools / "uv", INSTALLER)
    assert machine.run().returncode == 0
    assert not (machine.venv / "half").exists() or "--reinstall" in machine.installs()[0]


def test_interpreter_that_changed_is_set_up_again(machine: Machine) -> None:
    interpreter = machine.folder / "python3"
    interpreter.symlink_to(INTERPRETER)
    assert machine.run(PYTHON=str(interpreter)).returncode == 0
    interpreter.unlink()
    interpreter.symlink_to(write_script(machine.folder / "newer", f'#!/bin/sh\nexec "{INTERPRETER}" "$@"\n'))
    machine.run(PYTHON=str(interpreter))
    assert len(machine.installs()) == 2


def test_folder_that_is_no_environment_is_not_emptied(machine: Machine) -> None:
    machine.venv.mkdir()
    (machine.venv / "letter").write_text("keep")
    done = machine.run()
    assert (machine.venv / "letter").exists()
    assert done.returncode == 1
    assert str(machine.venv) in done.stderr


def test_relative_environment_is_one_place(machine: Machine) -> None:
    assert machine.run(OLLAMA_PROXY_VENV="here").returncode == 0
    assert machine.installs()[0].split()[0] == str(machine.folder / "here")


def test_uv_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path, pip=True)
    write_script(machine.tools / "uv", "#!/bin/sh\nexit 127\n")
    assert "uv, the installer" in machine.run().stderr


def test_python_that_does_not_run_is_passed_over(machine: Machine) -> None:
    write_script(machine.tools / "python3", "#!/bin/sh\nexit 127\n")
    (machine.tools / "python3.12").symlink_to(INTERPRETER)
    done = machine.run(PYTHON="")
    assert done.returncode == 0, done.stderr
    assert (machine.venv / "bin" / "python").exists()


@pytest.mark.parametrize(("us", "chosen"), [(8, "python3.12"), (9, "python3")])
def test_a_python_that_is_built_to_run_faster_is_taken_before_the_first(machine: Machine, us: int, chosen: str) -> None:
    for name, takes_us in {"python3": 10, "python3.12": us}.items():
        write_script(machine.tools / name, TIMED.format(us=takes_us, interpreter=INTERPRETER))
    done = machine.run(PYTHON="")
    assert done.returncode == 0, done.stderr
    assert f", {machine.tools / chosen})\n" in done.stderr


def test_a_python_that_is_named_is_taken_however_slow(machine: Machine) -> None:
    slow = write_script(machine.tools / "mine", TIMED.format(us=10**9, interpreter=INTERPRETER))
    assert f", {slow})\n" in machine.run(PYTHON=str(slow)).stderr


def test_python_in_a_folder_with_a_space(machine: Machine) -> None:
    place = machine.folder / "a b"
    place.mkdir()
    (place / "python3").symlink_to(INTERPRETER)
    done = machine.run(PYTHON=str(place / "python3"))
    assert done.returncode == 0, done.stderr


def test_unfit_python_is_one_sentence(machine: Machine) -> None:
    done = machine.run(str(machine.root / "bin/ollama-proxy"), PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [UNFIT]


def test_unfit_python_is_one_sentence_for_the_tests_too(machine: Machine) -> None:
    done = machine.run(str(machine.root / "bin/test"), PYTHON="/bin/false")
    assert done.returncode != 0
    assert done.stderr.splitlines()[1:] == [UNFIT]


def test_command_works_through_a_symlink_from_anywhere(ready: Machine, tmp_path: Path) -> None:
    link = tmp_path / "proxy"
    link.symlink_to(ROOT / "bin/ollama-proxy")
    done = ready.run(str(link), "--version")
    assert done.stdout.startswith("ollama-proxy ")
    assert done.stderr == ""
    missing = ready.run(str(link), "--config", "none there.yaml")
    assert missing.returncode == 2
    assert "none there.yaml" in missing.stderr


def test_signals_reach_the_program(ready: Machine, tmp_path: Path) -> None:
    ports = ",".join(str(free_port()) for _ in range(4))
    command = [str(ROOT / "bin/ollama-proxy"), "lab", "up", "--text", "synthetic", "--ports", ports]
    child = Child([*command, "--control-port", str(free_port())], tmp_path / "log.txt", ready.env)
    try:
        wait_until(lambda: child.process.poll() is not None or "Stop with Ctrl-C." in child.text(), "the lab")
        child.check_alive()
        assert b"ollama_proxy" in Path(f"/proc/{child.pid}/cmdline").read_bytes()
        assert child.stop() == 0
    finally:
        child.kill_group()


@pytest.mark.parametrize(
    ("body", "code", "totals"), [("assert True", 0, "2 passed, 0 failed"), ("assert False", 1, "0 passed, 2 failed")]
)
def test_exit_code_of_the_tests_is_theirs_and_the_last_line_gives_the_totals(
    ready: Machine, tmp_path: Path, body: str, code: int, totals: str
) -> None:
    """The step counts beside its test."""
    file = tmp_path / "test_it.py"
    file.write_text(f"def test_it():\n    {body}\n")
    done = ready.run(str(ROOT / "bin/test"), str(file))
    assert done.returncode == code
    assert re.fullmatch(rf"{totals}(, \d+ skipped)?", done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, ""),
        ({"PYTHONDONTWRITEBYTECODE": "1"}, "VENV/bytecode"),
        ({"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/else/where"}, "/else/where"),
    ],
)
def test_who_forbids_bytecode_beside_the_sources_has_it_elsewhere(
    machine: Machine, changes: dict[str, str], kept: str
) -> None:
    """Or every start would compile every module."""
    (machine.root / "src").mkdir()
    text = (
        'root=$1; venv=VENV; . "$root/bin/environment.sh"; keep_bytecode\n'
        'echo "${PYTHONPYCACHEPREFIX:-}|${PYTHONDONTWRITEBYTECODE:-}"'
    )
    told = machine.run("sh", "-c", text, "sh", str(machine.root), **changes)
    assert told.stdout == f"{kept}|\n"

"""A file read by a process of its own, with limits of time and memory: no document can harm or hold up the proxy.

The child gets the file on its standard input, and answers with one line of JSON, then the text.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from typing import Any

import msgspec

from ollama_proxy.vectors.readers.kinds import needs_child, read_text
from ollama_proxy.vectors.readers.problem import Unreadable

_MEMORY_BYTES = 1 << 30
_CPU_S = 120
_WALL_S = 300.0


class _Verdict(msgspec.Struct):
    code: str = ""
    message: str = ""


async def read_safely(name: str, content: bytes, most_chars: int) -> str:
    """The text of a file. Raises `Unreadable`."""
    if not needs_child(name, content):
        return read_text(name, content, most_chars)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__, name, str(most_chars)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_WALL_S):
            output, _ = await child.communicate(content)
    except TimeoutError:
        raise Unreadable("invalid_file", f"reading the file took longer than {_WALL_S:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _read_answer(child.returncode or 0, output)


def _read_answer(code: int, output: bytes) -> str:
    head, _, text = output.partition(b"\n")
    if code == 0 and head:
        verdict = msgspec.json.decode(head, type=_Verdict)
        if verdict.code:
            raise Unreadable(verdict.code, verdict.message)
        return text.decode("utf-8", "surrogatepass").encode("utf-8", "replace").decode("utf-8")
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise Unreadable("invalid_file", f"reading the file took more than {_CPU_S} s of computing time")
    if code < 0:
        raise Unreadable("invalid_file", f"reading the file ended in a crash ({signal.Signals(-code).name})")
    raise Unreadable("invalid_file", "the file cannot be read within the memory that is allowed for it")


def main(arguments: list[str]) -> None:
    """The child's part."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    name, most_chars = arguments
    out: Any = sys.stdout.buffer
    try:
        text = read_text(name, sys.stdin.buffer.read(), int(most_chars))
    except Unreadable as error:
        out.write(msgspec.json.encode(_Verdict(error.code, error.message)) + b"\n")
        return
    except RecursionError:
        out.write(msgspec.json.encode(_Verdict("invalid_file", "the file is nested too deep")) + b"\n")
        return
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # what no reader foresaw is a fault of the file, not of the memory
        told = f"the file cannot be read: {type(error).__name__}: {str(error)[:200]}"
        out.write(msgspec.json.encode(_Verdict("invalid_file", told)) + b"\n")
        return
    out.write(msgspec.json.encode(_Verdict()) + b"\n" + text.encode("utf-8", "replace"))


if __name__ == "__main__":
    main(sys.argv[1:])

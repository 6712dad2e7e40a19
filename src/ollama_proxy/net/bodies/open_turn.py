"""The last turn of a conversation whose answer broke off, for whoever is to go on with it."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.call import Continued, Message, Sampling

#: Options that change how a server works and not what it writes, and those that mean nothing in mid-answer: dice are
#: thrown anew, seed or not.
_OF_NO_MATTER = frozenset(("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "seed"))
#: Options that are as good as not said.
_NEUTRAL = {"presence_penalty": 0, "frequency_penalty": 0, "repeat_penalty": 1, "min_p": 0}


def leave_open(messages: tuple[Message, ...], sent: Continued) -> tuple[Message, ...]:
    """A conversation with what was sent at its end.

    Where the client has begun the answer itself, what was sent goes on with that turn: two turns of one role in a row
    are refused by some servers, and by others closed or parted by a blank line.
    """
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant" or last.tool_uses:
        return (*messages, Message("assistant", sent.text, sent.thinking))
    turn = msgspec.structs.replace(last, content=last.content + sent.text, thinking=last.thinking + sent.thinking)
    return (*messages[:-1], turn)


def find_untold_option(sampling: Sampling, told: frozenset[str]) -> str:
    """Why a server that is told these options alone must not go on, as a clause; "" if no other one was asked for."""
    asked = {**msgspec.structs.asdict(sampling), **sampling.extra}
    del asked["extra"]
    said = (name for name, value in asked.items() if value is not None and value != _NEUTRAL.get(name))
    odd = next((name for name in said if name not in told and name not in _OF_NO_MATTER), "")
    return f"{odd[:40]!r} cannot be carried over" if odd else ""

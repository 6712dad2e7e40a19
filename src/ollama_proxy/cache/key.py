"""What makes two requests equal: everything that may change the answer, and whose they are. Pure.

The key is of the request as every backend can understand it, so that an answer made for one dialect serves the same
request in another.
"""

from __future__ import annotations

import hashlib

import msgspec

from ollama_proxy.domain.call import Generation, Operation, Sampling
from ollama_proxy.domain.caller import Caller

#: Counted up when the same request is to have another key, so that nothing is found that was kept before.
_VERSION = 1
KEY_BYTES = 32
_encode = msgspec.msgpack.Encoder().encode


class Weights(msgspec.Struct, frozen=True):
    """Which model answers. Where all that may answer tell one digest, that alone says it, whatever the model is called;
    else its name does, with all that is known of its digests and the backend that was asked for."""

    digests: tuple[str, ...]
    name: str = ""
    target: str = ""

    @property
    def digest(self) -> str:
        """The one digest that says it all; "" where none does."""
        return "" if self.name else self.digests[0]


def find_key(secret: bytes, caller: Caller, weights: Weights, operation: Operation, asked: Generation) -> bytes | None:
    """The key of a request, `KEY_BYTES` long; nobody can guess it who does not know the secret (16 to 64 bytes).

    None for a request that cannot be written down: with numbers beyond 64 bits, or nested too deeply.
    """
    document = (_VERSION, caller.identify(), weights, operation.value, _settle(asked))
    try:
        data = _encode(document)
    except (OverflowError, RecursionError, ValueError):
        return None
    return hashlib.blake2b(data, digest_size=KEY_BYTES, key=secret).digest()


def find_frame(
    secret: bytes, caller: Caller, weights: Weights, operation: Operation, asked: Generation
) -> bytes | None:
    """As `find_key`, of everything but the text of the last prompt: what two requests must have in common before it is
    asked whether their prompts mean the same."""
    return find_key(secret, caller, weights, operation, without_prompt(asked))


def is_deterministic(sampling: Sampling) -> bool:
    """Whether the same request is meant to get the same answer: the likeliest token each time, or a fixed seed."""
    return sampling.temperature == 0 or sampling.seed is not None


def without_prompt(asked: Generation) -> Generation:
    """The same request with nothing to answer: the prompt, or else the last message's text, is empty."""
    if not asked.messages:
        return msgspec.structs.replace(asked, prompt="")
    *before, last = asked.messages
    return msgspec.structs.replace(asked, messages=(*before, msgspec.structs.replace(last, content="")))


def _settle(asked: Generation) -> Generation:
    """The same request in the one form of all that mean the same."""
    sampling = asked.sampling
    # Some dialects write their default out, others leave it off; beside temperature 0 it says nothing.
    top_p = None if sampling.top_p == 1.0 and sampling.temperature == 0 else sampling.top_p
    extra = dict(sorted(sampling.extra.items()))
    settled = msgspec.structs.replace(sampling, top_p=top_p, extra=extra)
    return msgspec.structs.replace(asked, sampling=settled, keep_alive=None, limits_completion=False)

"""Prompts as an emulated model reads them: what a server tells of them, and what is asked for behind them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ollama_proxy.api.ollama.typed import read_typed
from ollama_proxy.domain.call import Generation, Message, Operation
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.lab.text import prompt_of

_ASKED = b'"_debug_render_only":true'
_OPERATIONS: Mapping[bytes, Operation] = {b"/api/generate": Operation.GENERATE, b"/api/chat": Operation.CHAT}
#: Where the answer begins.
_TURN = "\n<|emulated answer|>\n"


def render(path: bytes, body: bytes) -> bytes | None:
    """The answer to a request that only wants its prompt rendered; None for every other request."""
    operation = _OPERATIONS.get(path)
    if operation is None or _ASKED not in body:
        return None
    try:
        request = read_typed(body, operation)
    except ProxyError:
        return None
    images = len(request.images) + sum(len(message.images) for message in request.messages)
    info = {"rendered_template": prompt_of(request) + _TURN, "image_count": images}
    return msgspec.json.encode({"done": False, "_debug_info": info})


def read_rendered(request: Generation) -> Generation:
    """A raw prompt that was rendered here, with the answer so far as its last turn; any other request as it is."""
    asked, turn, said = request.prompt.rpartition(_TURN)
    if not request.raw or not turn:
        return request
    messages = (Message("user", asked), *((Message("assistant", said),) if said else ()))
    return msgspec.structs.replace(request, raw=False, prompt="", messages=messages)

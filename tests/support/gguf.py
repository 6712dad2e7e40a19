"""The smallest file that Ollama takes for a model: a few facts and one tensor of zeros."""

from __future__ import annotations

import struct

_TEXT, _U32 = 8, 4


def tiny_gguf(file_type: int = 0) -> bytes:
    """A file that differs with `file_type`, and loads nowhere."""
    facts = [
        _fact("general.architecture", _TEXT, _text("llama")),
        _fact("general.file_type", _U32, struct.pack("<I", file_type)),
        _fact("llama.block_count", _U32, struct.pack("<I", 1)),
        _fact("llama.context_length", _U32, struct.pack("<I", 64)),
        _fact("llama.embedding_length", _U32, struct.pack("<I", 32)),
    ]
    tensor = _text("token_embd.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(facts)) + b"".join(facts) + tensor
    return head + bytes(-len(head) % 32) + bytes(128)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _fact(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value

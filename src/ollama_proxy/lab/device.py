"""The emulated devices, shaped like those of the shipped configuration."""

from __future__ import annotations

import hashlib

import msgspec

from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.names import canonical_model


class DeviceSpec(msgspec.Struct, frozen=True):
    """One device: watts under load, seconds to a first token, tokens a second, the models it holds."""

    name: str
    watts: float
    first_token_s: float
    prefill_tps: float
    decode_tps: float
    load_s: float
    models: tuple[str, ...]


SMALL, LARGE = "qwen2.5:0.5b", "llama3:7b"

#: Draw and speed as configured for the four devices; prefill rates and load times are typical ones of their kind.
DEVICES = {
    "npu": DeviceSpec("npu", 3, 0.8, 150, 10, 0.5, (SMALL,)),
    "igpu": DeviceSpec("igpu", 12, 0.35, 300, 22, 0.3, (SMALL, LARGE)),
    "nvidia": DeviceSpec("nvidia", 55, 0.15, 1500, 65, 0.2, (SMALL, LARGE)),
    "cpu": DeviceSpec("cpu", 28, 1.2, 45, 6, 0.3, (SMALL, LARGE)),
}

_FACTS = {SMALL: (397_821_319, "494.03M", "Q4_K_M", "qwen2"), LARGE: (4_661_224_676, "7.0B", "Q4_0", "llama")}


def list_models(names: tuple[str, ...]) -> dict[str, ModelFacts]:
    """Facts of emulated models by canonical name; sizes like the real ones, digests plainly made up."""
    return {canonical_model(name): _describe(name) for name in names}


def _describe(name: str) -> ModelFacts:
    size, parameters, quantization, family = _FACTS.get(name, (1_000_000_000, "1B", "Q4_0", "emulated"))
    digest = hashlib.sha256(f"emulated {name}".encode()).hexdigest()
    modified = "2025-01-01T00:00:00Z"
    entry = {
        "name": name,
        "model": name,
        "modified_at": modified,
        "size": size,
        "digest": digest,
        "details": {
            "parent_model": "",
            "format": "emulated",
            "family": family,
            "families": [family],
            "parameter_size": parameters,
            "quantization_level": quantization,
        },
    }
    return ModelFacts(name, digest, size, modified, 8192, entry)

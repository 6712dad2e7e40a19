"""The named efficiency modes: each is a setting of the policy, and nothing else."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.decision import Policy

MODES: dict[str, tuple[float, str]] = {
    "Performance": (50.0, "a second saved is worth 50 J: the fast devices take most requests"),
    "Balanced": (10.0, "a second saved is worth 10 J"),
    "Efficiency": (4.0, "a second saved is worth 4 J: the frugal devices take most requests"),
    "Quiet": (4.0, "as Efficiency, until fans are metered"),
    "Auto": (10.0, "as Balanced, until mains and battery are metered"),
    "UltraEfficiency": (1.0, "a second saved is worth 1 J: the least energy, with patience"),
}


def find_mode(name: str) -> str | None:
    """The mode's own spelling, whatever the case of `name`."""
    wanted = name.strip().lower().replace("_", "").replace("-", "")
    return next((mode for mode in MODES if mode.lower() == wanted), None)


def build_policy(mode: str, base: Policy | None = None) -> Policy:
    """The policy of a mode; tie-breakers are kept from `base`."""
    return msgspec.structs.replace(base or Policy(), name=mode, lambda_watts=MODES[mode][0])

"""Fixtures of the commands."""

from __future__ import annotations

from tests.unit.energy.meters.conftest import sysfs

__all__ = ["sysfs"]

"""What kind of picture a base64 text holds, told from its first bytes."""

from __future__ import annotations

_BEGINS = (("iVBORw0KGgo", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp"))


def image_type(image: str) -> str:
    """The subtype of its media type, such as `png`; `jpeg` where nothing is known."""
    return next((kind for begin, kind in _BEGINS if image.startswith(begin)), "jpeg")

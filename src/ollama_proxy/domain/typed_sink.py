"""What no sink of a typed request is ever given: an answer in a dialect of somebody's own."""

from __future__ import annotations

from ollama_proxy.domain.answer import Progress


class TypedSink:
    """The calls of `AnswerSink` that stand for raw answers, refused: to ask for a typed one and get these is a bug."""

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {length} bytes) to a typed request")

    def send_raw(self, data: bytes) -> None:
        raise AssertionError(f"{len(data)} raw bytes in answer to a typed request")

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {len(body)} bytes) to a typed request")

    def relay(self) -> None:
        """There is no raw answer."""

    def take_over(self, progress: Progress) -> None:
        raise AssertionError(f"a raw answer of {len(progress.events)} events to a typed request")

"""A file that cannot be read."""

from __future__ import annotations


class Unreadable(Exception):
    """Why: `code` is OpenAI's word (`invalid_file`, `unsupported_file`), the text is for whoever brought the file."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

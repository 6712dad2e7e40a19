"""The one thing that is changed for ollama-python's own tests: their mock server says that it lives at the proxy.

Loaded as a plugin by the pytest that runs them; `PROXY_URL` is the proxy's.
"""

from __future__ import annotations

import os

from pytest_httpserver import HTTPServer


def _url_for(server: HTTPServer, suffix: str) -> str:
    return os.environ["PROXY_URL"] + suffix


HTTPServer.url_for = _url_for  # type: ignore[method-assign]

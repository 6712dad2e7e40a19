"""A registry of one model, as far as Ollama's pull asks: a manifest, and blobs behind a redirect to another host."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Context manager. `slow_s` is how long each quarter of a megabyte takes."""

    def __init__(self, layers: dict[str, bytes], slow_s: float = 0.0) -> None:
        """`layers` by media type, without the part that all of them share."""
        self._slow_s = slow_s
        config = json.dumps({"model_format": "gguf", "model_family": "llama", "os": "linux"}).encode()
        self.blobs = {digest_of(blob): blob for blob in [config, *layers.values()]}
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": _entry("application/vnd.docker.container.image.v1+json", config),
                "layers": [_entry(f"application/vnd.ollama.image.{kind}", blob) for kind, blob in layers.items()],
            }
        ).encode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self.port = self._server.server_address[1]

    @property
    def model(self) -> str:
        """What to pull, with `insecure`."""
        return f"127.0.0.1:{self.port}/library/tiny:1"

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                if "/manifests/" in self.path:
                    found = registry._manifest if name == "1" else None
                    self._answer(200 if found else 404, found or b'{"errors":[]}', {})
                elif self.path.startswith("/v2/") and self.command == "GET":
                    where = f"http://localhost:{registry.port}/data/{name}"
                    self._answer(307, b"", {"Location": where})
                else:
                    self._send_blob(registry.blobs[name])

            def _send_blob(self, blob: bytes) -> None:
                first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                part = blob[int(first) : int(last or len(blob) - 1) + 1]
                self._answer(206 if "Range" in self.headers else 200, part, {})

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                for at in range(0, len(body), 1 << 18):
                    self.wfile.write(body[at : at + (1 << 18)])
                    time.sleep(registry._slow_s if len(body) > 1 << 18 else 0)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def digest_of(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _entry(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}

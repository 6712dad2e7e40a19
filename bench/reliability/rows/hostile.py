"""B: hostile input and isolation, as far as tests prove it."""

from __future__ import annotations

from bench.reliability.row import Row
from bench.reliability.tested import ProvenByTests

ROWS = (
    Row(
        "B2",
        "Upgrade, CONNECT, HTTP/2 to HTTP/1",
        "0 bytes passed on before a 101; 0 injected headers",
        "Upgrades granted, ignored and refused; CONNECT refused; fields of HTTP/2 that HTTP/1 could not hold",
        ProvenByTests(
            (
                "tests/unit/net/http1/test_upgrade.py",
                "tests/unit/net/http1/test_request_cases.py",
                "tests/unit/net/test_http_port.py",
                "tests/h2/test_h2spec.py",
                "tests/h2/test_early_answers.py",
                "tests/properties/test_http2_framing.py",
                "tests/unit/net/test_websocket.py",
            ),
        ).run,
    ),
    Row(
        "B3",
        "HTTP/2 abuse: rapid reset, MadeYouReset, CONTINUATION, SETTINGS and PING floods, HPACK bomb, zero window",
        "GOAWAY within 1 s or 1,000 frames; a good client is served; RSS + <= 32 MiB",
        "Each flood to the frame that is one too many, and 50,000 frames beside a good client, with the memory watched",
        ProvenByTests(("tests/h2/test_abuse.py", "tests/h2/test_limits.py")).run,
        "the good client's p99 against a quiet run",
    ),
)

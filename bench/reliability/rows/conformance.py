"""A: the protocols by the letter."""

from __future__ import annotations

from bench.reliability.row import Row
from bench.reliability.tested import ProvenByTests

ROWS = (
    Row(
        "A1",
        "HTTP/1.1 heads and bodies: every MUST of RFC 9112",
        "each accepted with the one right meaning or refused with 4xx and closed; 0 in doubt; 0 5xx",
        "Tables of requests and answers by section, each whole, byte by byte, in threes and with a tail behind it; h11"
        " as second reader; random framings by Hypothesis",
        ProvenByTests(
            (
                "tests/unit/net/http1/test_request_cases.py",
                "tests/unit/net/http1/test_answer_cases.py",
                "tests/unit/net/http1/test_upgrade.py",
                "tests/unit/net/http1/test_server.py",
                "tests/unit/net/http1/test_server_faults.py",
                "tests/unit/net/http1/test_server_limits.py",
                "tests/properties/test_http1_framing.py",
            ),
        ).run,
        "501, 505 and 417 are given where RFC 9110 names them",
    ),
    Row(
        "A3",
        "HTTP/2: frames, states, flow control, header rules",
        "0 failures; h2spec and nghttp run clean",
        "h2spec (145 cases), own frame scripts, random cuts, seven clients, against our server as a process",
        ProvenByTests(
            (
                "tests/h2/test_h2spec.py",
                "tests/h2/test_limits.py",
                "tests/h2/test_hpack.py",
                "tests/h2/test_liveness.py",
                "tests/h2/test_streamed_bodies.py",
                "tests/h2/test_early_answers.py",
                "tests/h2/test_clients.py",
                "tests/properties/test_http2_framing.py",
            ),
        ).run,
    ),
    Row(
        "A4",
        "SSE and NDJSON: whole, byte by byte, random cuts, all dialects",
        "identical events; 20,000 examples",
        "Hypothesis cuts streams and compares what comes out, for the framers and for the lanes that use them",
        ProvenByTests(
            (
                "tests/unit/net/lanes/test_framing.py",
                "tests/properties/test_relay.py::test_a_stream_passes_whole_and_in_whole_events",
                "tests/properties/test_relay.py::test_only_chunks_of_whole_events_are_relayed",
                "tests/properties/test_anthropic.py",
            ),
            examples=20_000,
            quick_examples=200,
        ).run,
    ),
    Row(
        "A6",
        "gRPC: health, reflection, deadlines, cancellation, all codes; API unbroken",
        "100 %; 0 breaking changes",
        "grpcio, grpc-js, grpc-go's interoperability cases, grpcurl, ghz; buf against the frozen contract",
        ProvenByTests(
            (
                "tests/unit/net/grpc/test_server.py",
                "tests/unit/net/grpc/test_reflection.py",
                "tests/unit/api/test_compute_methods.py",
                "tests/unit/test_contract.py",
                "tests/h2/test_interop.py",
                "tests/h2/test_clients.py",
                "tests/e2e/test_bad_input.py::test_grpc_codes",
                "tests/e2e/test_bad_input.py::test_grpc_rubbish_pipelines_and_unknown_methods",
                "tests/e2e/test_bad_input.py::test_grpc_embed_backends_and_health",
            ),
        ).run,
    ),
    Row(
        "A5",
        "unchanged official clients: chat, stream, tools, images, embeddings, lists, errors, cancel",
        "100 % of what an API claims",
        "The Python packages of Ollama (with its own test suite), OpenAI and Anthropic, and the Node packages of all"
        " three (a quick run leaves those out), over the lab, the embedded model and real servers; what a real Ollama"
        " answers directly is what it has to answer through the proxy",
        ProvenByTests(
            (
                "tests/e2e/test_clients.py",
                "tests/e2e/test_openai_api.py",
                "tests/e2e/test_anthropic.py",
                "tests/e2e/test_responses.py",
                "tests/e2e/test_model_management.py",
                "tests/e2e/test_ollama_python.py",
                "tests/e2e/test_sdk_python.py::test_a_client_gets_what_ollama_says",
                "tests/e2e/test_sdk_python.py::test_an_image_fares_as_with_ollama",
                "tests/e2e/test_sdk_python.py::test_a_blob_is_uploaded",
                "tests/e2e/test_sdk_python.py::test_every_method_of_the_client_is_among_them",
                "tests/e2e/test_sdk_node.py",
            ),
            with_long=True,
        ).run,
    ),
    Row(
        "A7",
        "generated requests from our own OpenAPI document",
        "0 5xx, 0 answers outside the schema",
        "schemathesis sends what the document describes and looks at what comes back (`bin/check-openapi` for more)",
        ProvenByTests(("tests/openapi",)).run,
    ),
)

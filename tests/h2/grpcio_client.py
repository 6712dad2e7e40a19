"""One call with grpcio; prints its code and the number of its messages.

python -m tests.h2.grpcio_client ADDRESS PROTO METHOD REQUEST DEADLINE_S|- [cancel]
"""

from __future__ import annotations

import json
import sys

import grpc
from google.protobuf import json_format

from ollama_proxy.api.gen.compute.v1 import compute_pb2


def run(address: str, method: str, text: str, deadline: str, *, cancel: bool) -> tuple[int, int]:
    """The code and the number of messages."""
    request = json_format.Parse(text, compute_pb2.GenerateRequest())
    timeout_s = None if deadline == "-" else float(deadline)
    pieces = 0
    with grpc.insecure_channel(address) as channel:
        kind = channel.unary_unary if method == "Generate" else channel.unary_stream
        call = kind(f"/compute.v1.ComputeService/{method}", compute_pb2.GenerateRequest.SerializeToString)
        try:
            if method == "Generate":
                call(request, timeout=timeout_s)
                return 0, 1
            answers = call(request, timeout=timeout_s)
            for _ in answers:
                pieces += 1
                if cancel:
                    answers.cancel()
        except grpc.RpcError as error:
            code: int = error.code().value[0]
            return code, pieces
    return 0, pieces


if __name__ == "__main__":
    found = run(sys.argv[1], sys.argv[3], sys.argv[4], sys.argv[5], cancel=len(sys.argv) > 6)
    print(json.dumps(dict(zip(("code", "pieces"), found, strict=True))))

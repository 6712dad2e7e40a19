"""As clients.js, with the Connect client of PyPI: `clients.py URL STUBS CLIENT CALLS`. Run by the command `connect-py`.

STUBS is the folder of the generated messages.
"""

from __future__ import annotations

import json
import sys
from typing import Any

sys.path.insert(0, sys.argv[2])

from compute.v1 import compute_pb2
from connectrpc.client import ConnectClientSync
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

SERVICE = compute_pb2.DESCRIPTOR.services_by_name["ComputeService"]
CODES = {code: number for number, code in enumerate(Code, 1)}
KINDS = {
    "connectrpc": (ProtocolType.CONNECT, google_protobuf_binary_codec()),
    "connectrpc-json": (ProtocolType.CONNECT, google_protobuf_json_codec()),
    "connectrpc-grpc-web": (ProtocolType.GRPC_WEB, google_protobuf_binary_codec()),
}


def run_call(client: ConnectClientSync, call: dict[str, Any]) -> dict[str, Any]:
    method = SERVICE.methods_by_name[call["method"]]
    message = json_format.ParseDict(call["request"], GetMessageClass(method.input_type)())
    info = MethodInfo(
        name=method.name,
        service_name=SERVICE.full_name,
        input=GetMessageClass(method.input_type),
        output=GetMessageClass(method.output_type),
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
    )
    outcome = {"code": 0, "pieces": 0, "backend": None}
    ask = client.execute_server_stream if method.server_streaming else client.execute_unary
    try:
        answer = ask(request=message, method=info, timeout_ms=call.get("timeoutMs"))
        for piece in answer if method.server_streaming else [answer]:
            outcome["pieces"] += 1
            outcome["backend"] = piece.backend_used
            if call.get("cancel"):
                answer.close()
                return {**outcome, "code": CODES[Code.CANCELED]}
    except ConnectError as error:
        outcome["code"] = CODES[error.code]
    return outcome


protocol, codec = KINDS[sys.argv[3]]
with ConnectClientSync(sys.argv[1], codec=codec, protocol=protocol) as client:
    print(json.dumps([run_call(client, call) for call in json.loads(sys.argv[4])]))

"""gRPC `compute.v1` with `grpcio`; the stubs are made from the .proto file as it is read.

pip install grpcio-tools
python grpc_generate.py [localhost:50051]
"""

import sys
from pathlib import Path

import grpc

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"
MODEL = "qwen2.5:0.5b"

# In a project of your own, keep the stubs: python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. ...
sys.path.insert(0, str(Path(__file__).parents[2] / "proto"))
pb, services = grpc.protos_and_services("compute/v1/compute.proto")

with grpc.insecure_channel(ADDRESS) as channel:
    compute = services.ComputeServiceStub(channel)

    answer = compute.Generate(
        pb.GenerateRequest(
            prompt="Say hello.",
            model=MODEL,
            options=pb.GenerationOptions(max_tokens=12),
            annotations=pb.JobAnnotations(latency_critical=True),
        )
    )
    print("Generate:", answer.response)
    print(f"Answered by {answer.backend_used} - {answer.routing.reason}")

    print("Stream: ", end="")
    request = pb.GenerateRequest(
        prompt="Why is the sky blue?", model=MODEL, options=pb.GenerationOptions(max_tokens=40)
    )
    # Metadata steers as HTTP headers do. To stop early, call cancel() on what GenerateStream returns.
    for part in compute.GenerateStream(request, metadata=[("x-power-efficient", "true")], timeout=60):
        print(part.token, end="", flush=True)
        if part.done:
            print(f"\n{part.stats.tokens_generated} tokens, {part.stats.energy_wh:.6f} Wh")

    for backend in compute.ListBackends(pb.ListBackendsRequest()).backends:
        print(f"{backend.id}: {backend.status.state}, {backend.metrics.power_watts:g} W")

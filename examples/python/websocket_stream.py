"""Several requests at once over one WebSocket.

pip install websockets
python websocket_stream.py [http://localhost:8080]
"""

import json
import sys

from websockets.sync.client import connect

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
MODEL = "qwen2.5:0.5b"

with connect(BASE.replace("http", "ws", 1) + "/v1/stream/ws") as socket:

    def send(**message: object) -> None:
        """Every message is a JSON object."""
        socket.send(json.dumps(message))

    # The ids are yours to choose; each message of an answer carries its own.
    send(request_id="quick", model=MODEL, prompt="Say hello.", stream=True, options={"max_tokens": 12}, priority="high")
    send(request_id="frugal", model=MODEL, prompt="Name a colour.", annotations={"prefer_power_efficiency": True})
    send(request_id="endless", model=MODEL, prompt="Count.", stream=True, options={"max_tokens": 4000})

    waiting = {"quick", "frugal", "endless"}
    texts = dict.fromkeys(waiting, "")
    while waiting:
        message = json.loads(socket.recv())
        name = message["request_id"]
        texts[name] += message.get("token", "")
        if name == "endless" and not message["done"]:
            send(type="cancel", request_id="endless")
        if not message["done"]:
            continue
        # The last message of a request says where it ran and what it took, or what went wrong.
        waiting.remove(name)
        if "error" in message:
            print(f"{name}: ended with {message['error']['code']}")
        else:
            print(f"{name}: {texts[name]!r} from {message['backend']} in {message['total_time_ms']} ms")

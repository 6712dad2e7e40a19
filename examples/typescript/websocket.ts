// Several requests at once over one WebSocket. In a browser, `new WebSocket(url)` works in the same way.
//   npx tsx websocket.ts [http://localhost:8080]
import WebSocket from "ws";

const base = process.argv[2] ?? "http://localhost:8080";
const model = "qwen2.5:0.5b";
const socket = new WebSocket(`${base.replace("http", "ws")}/v1/stream/ws`);
const send = (message: object) => socket.send(JSON.stringify(message));

const waiting = new Set(["quick", "frugal", "endless"]);
const texts: Record<string, string> = {};

socket.onopen = () => {
  // The ids are yours to choose; each message of an answer carries its own.
  send({ request_id: "quick", model, prompt: "Say hello.", stream: true, options: { max_tokens: 12 }, priority: "high" });
  send({ request_id: "frugal", model, prompt: "Name a colour.", annotations: { prefer_power_efficiency: true } });
  send({ request_id: "endless", model, prompt: "Count.", stream: true, options: { max_tokens: 4000 } });
};

socket.onmessage = ({ data }) => {
  const message = JSON.parse(data.toString());
  const name: string = message.request_id;
  texts[name] = (texts[name] ?? "") + (message.token ?? "");
  if (name === "endless" && !message.done) send({ type: "cancel", request_id: name });
  if (!message.done) return;
  // The last message of a request says where it ran and what it took, or what went wrong.
  if (message.error) console.log(`${name}: ended with ${message.error.code}`);
  else console.log(`${name}: "${texts[name]}" from ${message.backend} in ${message.total_time_ms} ms`);
  waiting.delete(name);
  if (waiting.size === 0) socket.close();
};

socket.onerror = ({ message }) => {
  console.error(message);
  process.exitCode = 1;
};

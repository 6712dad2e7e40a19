// The official ollama client: only the host differs from a single Ollama server.
//   npx tsx ollama.ts [http://localhost:8080]
import { Ollama } from "ollama";

const base = process.argv[2] ?? "http://localhost:8080";
const model = "qwen2.5:0.5b";

// Headers steer the routing of every request of this client: here, the device that draws the least power.
const client = new Ollama({ host: base, headers: { "X-Power-Efficient": "true" } });

const { models } = await client.list();
console.log("Models:", models.map((one) => one.name).join(", "));

process.stdout.write("Chat: ");
const stream = await client.chat({
  model,
  messages: [{ role: "user", content: "Why is the sky blue? One sentence." }],
  options: { num_predict: 40 },
  stream: true,
});
for await (const part of stream) process.stdout.write(part.message.content);
console.log();

const { embeddings } = await client.embed({ model, input: ["first text", "second text"] });
console.log(`Embed: ${embeddings.length} vectors of ${embeddings[0].length} numbers`);

// The official Anthropic client: only baseURL differs from Anthropic.
//   npx tsx anthropic.ts [http://localhost:8080]
import Anthropic from "@anthropic-ai/sdk";

const base = process.argv[2] ?? "http://localhost:8080";
const model = "qwen2.5:0.5b";
const client = new Anthropic({ baseURL: base, apiKey: "unused" });

const message = await client.messages.create({
  model,
  max_tokens: 12,
  messages: [{ role: "user", content: "Say hello." }],
});
console.log("Message:", message.content.map((block) => (block.type === "text" ? block.text : "")).join(""));

process.stdout.write("Stream: ");
const stream = client.messages
  .stream({ model, max_tokens: 40, messages: [{ role: "user", content: "Why is the sky blue?" }] })
  .on("text", (text) => process.stdout.write(text));
const { usage } = await stream.finalMessage();
console.log(`\n${usage.output_tokens} tokens`);

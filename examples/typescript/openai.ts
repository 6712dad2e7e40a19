// The official openai client: only baseURL differs from OpenAI.
//   npx tsx openai.ts [http://localhost:8080]
import OpenAI from "openai";

const base = process.argv[2] ?? "http://localhost:8080";
const model = "qwen2.5:0.5b";
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "unused" });

// The raw response has the headers that say where the request went, and why.
const { data, response } = await client.chat.completions
  .create(
    { model, messages: [{ role: "user", content: "Say hello." }], max_tokens: 12 },
    { headers: { "X-Latency-Critical": "true" } },
  )
  .withResponse();
console.log("Chat:", data.choices[0].message.content);
console.log("Answered by", response.headers.get("x-backend-used"), "-", response.headers.get("x-routing-reason"));

process.stdout.write("Stream: ");
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  max_tokens: 40,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  if (chunk.usage) console.log(`\n${chunk.usage.completion_tokens} tokens`);
}

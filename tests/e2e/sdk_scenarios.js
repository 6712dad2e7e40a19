// What the official clients for Node say of a server: node sdk_scenarios.js URL. Prints an object, one member a scenario.
"use strict";
const { Ollama } = require("ollama");
const OpenAI = require("openai");
const Anthropic = require("@anthropic-ai/sdk");

const [base] = process.argv.slice(2);
const model = "smollm2:135m";
const options = { temperature: 0, seed: 1, num_predict: 8 };
const sampling = { temperature: 0, seed: 1, max_tokens: 8 };
const messages = [{ role: "user", content: "Which colour is grass?" }];
const weather = [{ role: "user", content: "What is the weather in Oslo?" }];
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tool = { name: "get_weather", description: "Tell the weather.", parameters: city };
const schema = { type: "object", properties: { colour: { type: "string" } }, required: ["colour"] };

const ollama = new Ollama({ host: base });
const openai = new (OpenAI.default ?? OpenAI)({ baseURL: `${base}/v1`, apiKey: "unused", maxRetries: 0 });
const anthropic = new (Anthropic.default ?? Anthropic)({ baseURL: base, apiKey: "unused", maxRetries: 0 });

async function all(stream) {
  const found = [];
  for await (const part of stream) found.push(part);
  return found;
}

async function failure(ask) {
  try {
    return await ask();
  } catch (error) {
    return { name: error.constructor.name, message: error.message, status: error.status_code ?? error.status };
  }
}

const scenarios = {
  ollama_list: () => ollama.list(),
  ollama_show: () => ollama.show({ model }),
  ollama_version: () => ollama.version(),
  ollama_generate: () => ollama.generate({ model, prompt: "Say hello.", options }),
  ollama_generate_stream: async () => all(await ollama.generate({ model, prompt: "Say hello.", options, stream: true })),
  ollama_chat: () => ollama.chat({ model, messages, options }),
  ollama_chat_stream: async () => all(await ollama.chat({ model, messages, options, stream: true })),
  ollama_chat_schema: () => ollama.chat({ model, messages, format: schema, options }),
  ollama_embed: () => ollama.embed({ model, input: ["one", "two"] }),
  ollama_embeddings: () => ollama.embeddings({ model, prompt: "one" }),
  ollama_copy_and_delete: async () => {
    const copied = await ollama.copy({ source: model, destination: "node-copy:1" });
    const steps = await all(await ollama.create({ model: "node-made:1", from: "node-copy:1", stream: true }));
    return [copied, steps, await ollama.delete({ model: "node-copy:1" }), await ollama.delete({ model: "node-made:1" })];
  },
  ollama_abort: async () => {
    const stream = await ollama.generate({ model, prompt: "Count.", options: { num_predict: 500 }, stream: true });
    return failure(async () => {
      for await (const part of stream) stream.abort();
    });
  },
  ollama_missing: () => failure(() => ollama.chat({ model: "nope:1b", messages })),

  openai_models: () => all(openai.models.list()),
  openai_model: () => openai.models.retrieve(model),
  openai_chat: () => openai.chat.completions.create({ model, messages, ...sampling }),
  openai_chat_stream: async () => {
    const more = { stream: true, stream_options: { include_usage: true } };
    return all(await openai.chat.completions.create({ model, messages, ...sampling, ...more }));
  },
  openai_chat_helper: async () => openai.chat.completions.stream({ model, messages, ...sampling }).finalChatCompletion(),
  openai_completion: () => openai.completions.create({ model, prompt: "Say hello.", ...sampling }),
  openai_embeddings: () => openai.embeddings.create({ model, input: ["one", "two"] }),
  openai_response: () => openai.responses.create({ model, input: "Say hello.", temperature: 0, max_output_tokens: 8 }),
  openai_response_stream: async () =>
    all(await openai.responses.create({ model, input: "Say hello.", temperature: 0, max_output_tokens: 8, stream: true })),
  openai_missing: () => failure(() => openai.chat.completions.create({ model: "nope:1b", messages })),

  anthropic_message: () => anthropic.messages.create({ model, messages, max_tokens: 8, temperature: 0 }),
  anthropic_stream: async () =>
    all(await anthropic.messages.create({ model, messages, max_tokens: 8, temperature: 0, stream: true })),
  anthropic_helper: async () => anthropic.messages.stream({ model, messages, max_tokens: 8, temperature: 0 }).finalMessage(),

  // One behind the other: they share a long prompt, which the server then keeps.
  ollama_chat_tools: () =>
    ollama.chat({
      model,
      messages: weather,
      tools: [{ type: "function", function: tool }],
      options: { ...options, num_predict: 40 },
    }),
  openai_chat_tools: () =>
    openai.chat.completions.create({
      model,
      messages: weather,
      ...sampling,
      max_tokens: 40,
      tools: [{ type: "function", function: tool }],
    }),
  anthropic_tools: () =>
    anthropic.messages.create({
      model,
      messages: weather,
      max_tokens: 40,
      temperature: 0,
      tools: [{ name: tool.name, description: tool.description, input_schema: city }],
    }),

  anthropic_missing: () => failure(() => anthropic.messages.create({ model: "nope:1b", messages, max_tokens: 8 })),
};

(async () => {
  const found = {};
  for (const [name, ask] of Object.entries(scenarios)) {
    try {
      found[name] = (await ask()) ?? null;
    } catch (error) {
      found[name] = { failed: `${error.constructor.name}: ${error.message}` };
    }
  }
  console.log(JSON.stringify(found));
})();

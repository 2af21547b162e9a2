import { area, load, serve } from "./serving.mjs";

const { OpenAI } = load("openai");

const client = (ask) => new OpenAI({ baseURL: ask.url, apiKey: ask.key });

const fields = (ask, changes = {}) => ({
  model: ask.model,
  messages: [{ role: "user", content: ask.text }],
  temperature: ask.temperature,
  ...changes,
});

const TOOL = {
  type: "function",
  function: {
    name: "area",
    parameters: {
      type: "object",
      properties: { width: { type: "integer" }, height: { type: "integer" } },
      required: ["width", "height"],
    },
  },
};

async function whole(ask, seen, changes) {
  const answer = await client(ask).chat.completions.create(fields(ask, changes));
  seen.piece(answer.choices[0].message.content);
  seen.counted(answer.usage.prompt_tokens, answer.usage.completion_tokens);
}

async function image(ask, seen) {
  const picture = { type: "image_url", image_url: { url: ask.picture } };
  const content = [{ type: "text", text: ask.text }, picture];
  await whole(ask, seen, { messages: [{ role: "user", content }] });
}

async function stream(ask, seen) {
  const options = ask.usage ? { stream_options: { include_usage: true } } : {};
  const asked = fields(ask, { stream: true, ...options });
  for await (const chunk of await client(ask).chat.completions.create(asked)) {
    if (chunk.usage) seen.counted(chunk.usage.prompt_tokens, chunk.usage.completion_tokens);
    else seen.piece(chunk.choices[0].delta.content);
  }
}

// The call is streamed, the answer to its result is not.
async function tools(ask, seen) {
  const asked = fields(ask, { tools: [TOOL] });
  const { choices } = await client(ask).chat.completions.stream(asked).finalChatCompletion();
  const [call] = choices[0].message.tool_calls;
  const content = String(area(JSON.parse(call.function.arguments)));
  const result = { role: "tool", tool_call_id: call.id, content };
  const messages = [...asked.messages, choices[0].message, result];
  await whole(ask, seen, { messages, tools: [TOOL] });
}

await serve({ whole, image, stream, tools });

import { area, load, serve } from "./serving.mjs";

const { generateText, stepCountIs, streamText, tool } = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");
const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");
const { z } = load("zod");

// Which of the two providers for OpenAI's chat completions.
const MODELS = {
  openai: (ask) => createOpenAI({ baseURL: ask.url, apiKey: ask.key }).chat(ask.model),
  compatible: (ask) =>
    createOpenAICompatible({
      name: "visiongate",
      baseURL: ask.url,
      apiKey: ask.key,
      includeUsage: ask.usage,
    })(ask.model),
};

const fields = (ask, changes = {}) => ({
  model: MODELS[process.argv[2]](ask),
  messages: [{ role: "user", content: ask.text }],
  temperature: ask.temperature,
  ...changes,
});

async function whole(ask, seen, changes) {
  const { text, usage } = await generateText(fields(ask, changes));
  seen.piece(text);
  seen.counted(usage.inputTokens, usage.outputTokens);
}

async function image(ask, seen) {
  const content = [
    { type: "text", text: ask.text },
    { type: "image", image: ask.picture },
  ];
  await whole(ask, seen, { messages: [{ role: "user", content }] });
}

async function listen(asked, seen) {
  const result = streamText({ ...asked, onError: () => {} });
  for await (const text of result.textStream) seen.piece(text);
  const usage = await result.usage;
  if (usage.inputTokens) seen.counted(usage.inputTokens, usage.outputTokens);
}

const stream = (ask, seen) => listen(fields(ask), seen);

async function tools(ask, seen) {
  const inputSchema = z.object({ width: z.number(), height: z.number() });
  const rectangle = tool({ description: "The area.", inputSchema, execute: area });
  await listen(fields(ask, { tools: { area: rectangle }, stopWhen: stepCountIs(3) }), seen);
}

await serve({ whole, image, stream, tools });

// The official Node SDK against a running gateway, as a user would drive it.
//
// VISIONGATE_URL        where the gateway listens, with or without /v1
// VISIONGATE_KEY        a key with room in its budget
// VISIONGATE_SPENT_KEY  a key whose calendar or total limit is used up
// VISIONGATE_MODEL      a model that the key may use (default gpt-4o)

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { VISIONGATE_URL, VISIONGATE_KEY, VISIONGATE_SPENT_KEY } = process.env;
const model = process.env.VISIONGATE_MODEL ?? "gpt-4o";

// A PNG of 64 by 48 pixels: teal, orange and yellow.
const image =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwAgMAAADcJZSMAAAADFBMVEUAgoL/kQD/4XgARlogl0dpAAAAbElEQVR42mNgGAXkAa1VUAYjhGJawfAtAcKCCHAwMHAwIAsowFnMEGoqAwOD9gGECiaoKoQWBGCCmQkzFYcKJMASysDAwMDKwMDAwBhKnBYcAn/gBC4V/xkYGBg+IKs4AMUMDIz/ybR2EAoAAIXnDAqgcdgcAAAAAElFTkSuQmCC";

function required(name, value) {
  assert.ok(value, `set ${name}`);
  return value;
}

function connect(apiKey) {
  const attempts = [];
  const base = required("VISIONGATE_URL", VISIONGATE_URL).replace(/\/+$/, "");
  const client = new OpenAI({
    apiKey,
    baseURL: base.endsWith("/v1") ? base : `${base}/v1`,
    timeout: 20_000,
    fetch: (url, init) => {
      attempts.push(String(url));
      return fetch(url, init);
    },
  });
  return { client, attempts };
}

const good = () => connect(required("VISIONGATE_KEY", VISIONGATE_KEY)).client;

const ask = (fields = {}) => ({
  model,
  messages: [
    {
      role: "user",
      content: [
        { type: "text", text: "What is in this image?" },
        { type: "image_url", image_url: { url: image } },
      ],
    },
  ],
  max_tokens: 100,
  ...fields,
});

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

function assertCounted(usage) {
  assert.ok(usage.prompt_tokens > 0);
  assert.ok(usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

test("a stream about an image yields text and one finish_reason", async () => {
  const chunks = await collect(await good().chat.completions.create(ask({ stream: true })));
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  const reasons = chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean);
  assert.ok(text.length > 0);
  assert.deepEqual(reasons, ["stop"]);
});

test("with include_usage the last chunk has the usage and no choice", async () => {
  const asked = ask({ stream: true, stream_options: { include_usage: true } });
  const chunks = await collect(await good().chat.completions.create(asked));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assertCounted(last.usage);
  assert.ok(chunks.length > 0);
  assert.ok(chunks.every((chunk) => chunk.choices.length > 0 && chunk.usage == null));
});

test("without include_usage every chunk has a choice", async () => {
  for (const fields of [{}, { stream_options: { include_usage: false } }]) {
    const asked = ask({ stream: true, ...fields });
    const chunks = await collect(await good().chat.completions.create(asked));
    assert.ok(chunks.length > 0);
    assert.ok(chunks.every((chunk) => chunk.choices.length > 0 && chunk.usage == null));
  }
});

test("an answer that is not streamed has text and usage", async () => {
  const answer = await good().chat.completions.create(ask());
  assert.equal(answer.object, "chat.completion");
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assertCounted(answer.usage);
});

test("a wrong key is an AuthenticationError", async () => {
  const { client, attempts } = connect("sk-wrong");
  await assert.rejects(client.chat.completions.create(ask()), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
  assert.equal(attempts.length, 1);
});

test("an unknown model is a NotFoundError", async () => {
  const asked = ask({ model: "no-such-model" });
  await assert.rejects(good().chat.completions.create(asked), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("a temperature of 9 is a BadRequestError that names the field", async () => {
  const asked = ask({ temperature: 9 });
  await assert.rejects(good().chat.completions.create(asked), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
});

test("a spent key is a RateLimitError after exactly one attempt", async () => {
  for (const stream of [true, false]) {
    const { client, attempts } = connect(required("VISIONGATE_SPENT_KEY", VISIONGATE_SPENT_KEY));
    await assert.rejects(client.chat.completions.create(ask({ stream })), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.code, "insufficient_quota");
      return true;
    });
    assert.equal(attempts.length, 1);
  }
});

test("the models that the key may use are listed", async () => {
  const names = [];
  for await (const entry of good().models.list()) {
    names.push(entry.id);
    assert.ok(entry.max_output > 0 && "price" in entry);
  }
  assert.ok(names.includes(model));
});

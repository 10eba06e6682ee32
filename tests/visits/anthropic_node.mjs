// Anthropic's client for JavaScript: messages, streams, tools, structured output, counting, models and errors.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { KEY, MODEL, refusal, run, step, URL } from "./steps.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const hello = { model: MODEL, messages: [{ role: "user", content: "Say hello." }], max_tokens: 40 };
const Light = z.object({ on: z.boolean(), room: z.enum(["kitchen", "hall"]) });
const light = {
  name: "light",
  description: "Switch a lamp",
  input_schema: { type: "object", properties: { on: { type: "boolean" } }, required: ["on"] },
};

step("a message", async () => {
  const answer = await client.messages.create({ ...hello, system: "Be short." });
  assert.equal(answer.type, "message");
  assert.equal(answer.role, "assistant");
  assert.ok(answer.content[0].text);
  assert.ok(["end_turn", "max_tokens"].includes(answer.stop_reason));
  assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
});

step("the streaming helper assembles one message", async () => {
  let text = "";
  const stream = client.messages.stream(hello).on("text", (delta) => (text += delta));
  const final = await stream.finalMessage();
  assert.equal(final.content[0].text, text);
  assert.ok(text && final.usage.input_tokens > 0 && final.usage.output_tokens > 0 && final.stop_reason);
});

step("a stop sequence", async () => {
  const fields = { ...hello, messages: [{ role: "user", content: "Count: one, two, three, four, five." }] };
  const answer = await client.messages.create({ ...fields, stop_sequences: ["e"] });
  assert.equal(answer.stop_reason, "stop_sequence");
  assert.equal(answer.stop_sequence, "e");
});

step("an answer continues what the assistant began", async () => {
  const messages = [...hello.messages, { role: "assistant", content: "Hello, my name is" }];
  const answer = await client.messages.create({ ...hello, messages });
  assert.ok(answer.content[0].text);
});

for (const choice of [{ type: "any" }, { type: "tool", name: "light" }]) {
  step(`a tool is called, choice ${choice.type}, whole and streamed`, async () => {
    const fields = { ...hello, max_tokens: 100, tools: [light], tool_choice: choice };
    for (const answer of [
      await client.messages.create(fields),
      await client.messages.stream(fields).finalMessage(),
    ]) {
      assert.equal(answer.stop_reason, "tool_use");
      const calls = answer.content.filter((block) => block.type === "tool_use");
      assert.ok(calls.length && calls.every((call) => call.id && typeof call.input.on === "boolean"));
    }
  });
}

step("a result of a tool is answered", async () => {
  const messages = [
    { role: "user", content: "Light the kitchen." },
    { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "light", input: { on: true } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "done" }] },
  ];
  assert.ok((await client.messages.create({ ...hello, messages, tools: [light] })).content);
});

step("parse with a zod schema", async () => {
  const fields = { ...hello, max_tokens: 100, output_config: { format: zodOutputFormat(Light) } };
  assert.ok(Light.safeParse((await client.messages.parse(fields)).parsed_output).success);
});

step("tokens are counted", async () => {
  const count = await client.messages.countTokens({ model: MODEL, messages: hello.messages });
  const answer = await client.messages.create({ ...hello, max_tokens: 1 });
  assert.equal(count.input_tokens, answer.usage.input_tokens);
});

step("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) {
    assert.equal(model.type, "model");
    assert.ok(model.display_name && model.created_at);
    names.push(model.id);
  }
  assert.ok(names.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

step("a wrong key", async () => {
  const stranger = new Anthropic({ baseURL: URL, apiKey: "sk-wrong", maxRetries: 0 });
  const error = await refusal(Anthropic.AuthenticationError, () => stranger.messages.create(hello), "key");
  assert.equal(error.type, "authentication_error");
});

step("an unknown model", async () => {
  for (const stream of [false, true]) {
    const call = () => client.messages.create({ ...hello, model: "no/such/model", stream });
    await refusal(Anthropic.NotFoundError, call, "no/such/model");
  }
});

step("batches and files are not served", async () => {
  await refusal(Anthropic.NotFoundError, () => client.messages.batches.list());
  await refusal(Anthropic.NotFoundError, () => client.messages.batches.create({ requests: [] }));
});

await run();

// OpenAI's client for JavaScript: chat, parse, streaming helpers, runTools, responses and errors.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { KEY, MODEL, OPENAI_URL, refusal, run, step } from "./steps.mjs";

const Light = z.object({ on: z.boolean(), room: z.enum(["kitchen", "hall"]) });
const client = new OpenAI({ baseURL: OPENAI_URL, apiKey: KEY, maxRetries: 0 });
const question = { model: MODEL, messages: [{ role: "user", content: "Light the kitchen." }], temperature: 0 };
const hello = { model: MODEL, messages: [{ role: "user", content: "Say hello." }], temperature: 0, max_tokens: 40 };

step("a chat completion", async () => {
  const answer = await client.chat.completions.create(hello);
  assert.ok(answer.choices[0].message.content);
  assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer._request_id);
});

step("a stream has the same text, and usage if requested", async () => {
  const whole = await client.chat.completions.create(hello);
  const stream = await client.chat.completions.create({
    ...hello,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

step("the streaming helper assembles the same text", async () => {
  const whole = await client.chat.completions.create(hello);
  let text = "";
  const stream = client.chat.completions.stream(hello).on("content", (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(text, whole.choices[0].message.content);
});

step("a stream that is left ends", async () => {
  const stream = await client.chat.completions.create({ ...hello, max_tokens: 2000, ignore_eos: true, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  assert.ok(stream.controller.signal.aborted);
});

step("parse with a zod schema", async () => {
  const answer = await client.chat.completions.parse({
    ...question,
    max_tokens: 200,
    response_format: zodResponseFormat(Light, "light"),
  });
  assert.ok(Light.safeParse(answer.choices[0].message.parsed).success);
});

step("a stream is parsed with a zod schema", async () => {
  const stream = client.chat.completions.stream({
    ...question,
    max_tokens: 200,
    response_format: zodResponseFormat(Light, "light"),
  });
  const final = await stream.finalChatCompletion();
  assert.ok(Light.safeParse(final.choices[0].message.parsed).success);
});

step("parse refuses an answer that max_tokens cut", async () => {
  const cut = { ...question, max_tokens: 2, response_format: zodResponseFormat(Light, "light") };
  await refusal(OpenAI.LengthFinishReasonError ?? Error, () => client.chat.completions.parse(cut), "length");
});

step("a tool call that max_tokens cuts says length, whole and streamed", async () => {
  const cut = {
    ...question,
    max_tokens: 5,
    tools: [zodFunction({ name: "light", parameters: Light })],
    tool_choice: "required",
  };
  const whole = await client.chat.completions.create(cut);
  assert.equal(whole.choices[0].finish_reason, "length");
  let reason = null;
  for await (const chunk of await client.chat.completions.create({ ...cut, stream: true })) {
    reason = chunk.choices[0]?.finish_reason ?? reason;
  }
  assert.equal(reason, "length");
});

step("a prompt that was read before counts as cached", async () => {
  const long = { ...hello, messages: [{ role: "user", content: "Say hello. ".repeat(300) }], max_tokens: 1 };
  await client.chat.completions.create(long);
  const { usage } = await client.chat.completions.create(long);
  assert.ok(usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens / 2);
});

step("parse calls a tool with a zod schema", async () => {
  const answer = await client.chat.completions.parse({
    ...question,
    max_tokens: 200,
    tools: [zodFunction({ name: "light", parameters: Light })],
    tool_choice: "required",
  });
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  for (const call of answer.choices[0].message.tool_calls) {
    assert.ok(Light.safeParse(call.function.parsed_arguments).success);
  }
});

const tools = (calls) => [
  {
    type: "function",
    function: {
      name: "light",
      parameters: { type: "object", properties: { on: { type: "boolean" } }, required: ["on"] },
      parse: JSON.parse,
      function: (fields) => {
        calls.push(fields);
        return "done";
      },
    },
  },
];

step("runTools calls the function and sends its result", async () => {
  const calls = [];
  const runner = client.chat.completions.runTools(
    {
      ...question,
      max_tokens: 200,
      tools: tools(calls),
      tool_choice: { type: "function", function: { name: "light" } },
    },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.ok(calls.length >= 1 && typeof calls[0].on === "boolean");
  assert.ok(runner.messages.some((message) => message.role === "tool" && message.content === "done"));
});

step("runTools streams", async () => {
  const calls = [];
  const runner = client.chat.completions.runTools(
    {
      ...question,
      stream: true,
      max_tokens: 200,
      tools: tools(calls),
      tool_choice: { type: "function", function: { name: "light" } },
    },
    { maxChatCompletions: 1 },
  );
  await runner.done();
  assert.ok(calls.length >= 1 && typeof calls[0].on === "boolean");
});

step("a response, whole and streamed", async () => {
  const fields = { model: MODEL, input: "Say hello.", temperature: 0, max_output_tokens: 40 };
  const whole = await client.responses.create(fields);
  assert.ok(whole.output_text && whole.usage.output_tokens > 0);
  const stream = client.responses.stream(fields);
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.equal(final.output_text, whole.output_text);
});

step("a response is parsed with a zod schema", async () => {
  const answer = await client.responses.parse({
    model: MODEL,
    input: "Light the kitchen.",
    temperature: 0,
    max_output_tokens: 200,
    text: { format: zodTextFormat(Light, "light") },
  });
  assert.ok(Light.safeParse(answer.output_parsed).success);
});

step("a completion, whole and streamed", async () => {
  const fields = { model: MODEL, prompt: "Once upon a time", max_tokens: 8, temperature: 0 };
  const whole = await client.completions.create(fields);
  let text = "";
  for await (const chunk of await client.completions.create({ ...fields, stream: true })) text += chunk.choices[0].text;
  assert.equal(text, whole.choices[0].text);
});

step("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

step("a wrong key", async () => {
  const stranger = new OpenAI({ baseURL: OPENAI_URL, apiKey: "sk-wrong", maxRetries: 0 });
  const error = await refusal(OpenAI.AuthenticationError, () => stranger.chat.completions.create(hello), "key");
  assert.equal(error.status, 401);
});

step("an unknown model", async () => {
  const fields = { ...hello, model: "no/such/model" };
  for (const stream of [false, true]) {
    const call = () => client.chat.completions.create({ ...fields, stream });
    const error = await refusal(OpenAI.NotFoundError, call, "no/such/model");
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
  }
});

step("a wrong field is named", async () => {
  const wrong = { temperature: 5, messages: [], n: -1, tool_choice: "sometimes", response_format: { type: "xml" } };
  for (const [field, value] of Object.entries(wrong)) {
    const call = () => client.chat.completions.create({ ...hello, [field]: value });
    assert.equal((await refusal(OpenAI.BadRequestError, call, field)).param, field);
  }
});

step("routes that are not served", async () => {
  const calls = [
    () => client.images.generate({ model: MODEL, prompt: "a lamp" }),
    () => client.files.list(),
    () => client.moderations.create({ input: "Hi" }),
  ];
  for (const call of calls) await refusal(OpenAI.NotFoundError, call);
  await refusal(OpenAI.BadRequestError, () => client.embeddings.create({ model: MODEL, input: "Hi" }), "embeddings");
});

await run();

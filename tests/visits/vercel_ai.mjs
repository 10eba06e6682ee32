// Vercel's AI SDK with its providers for OpenAI-compatible services, OpenAI and Anthropic.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, isStepCount, Output, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { KEY, MODEL, OPENAI_URL, refusal, run, step } from "./steps.mjs";

const Light = z.object({ on: z.boolean(), room: z.enum(["kitchen", "hall"]) });

const compatible = (apiKey) =>
  createOpenAICompatible({
    name: "bread",
    baseURL: OPENAI_URL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const models = (apiKey, name) => ({
  compatible: compatible(apiKey)(name),
  "openai chat": createOpenAI({ baseURL: OPENAI_URL, apiKey }).chat(name),
  "openai responses": createOpenAI({ baseURL: OPENAI_URL, apiKey }).responses(name),
  anthropic: createAnthropic({ baseURL: OPENAI_URL, apiKey })(name),
});
const common = { maxRetries: 0, temperature: 0 };

for (const [provider, model] of Object.entries(models(KEY, MODEL))) {
  step(`${provider}: text, whole and streamed`, async () => {
    const fields = { model, ...common, maxOutputTokens: 40, instructions: "Be short.", prompt: "Say hello." };
    const whole = await generateText(fields);
    assert.ok(whole.text && ["stop", "length"].includes(whole.finishReason));
    assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
    const stream = streamText(fields);
    let text = "";
    for await (const delta of stream.textStream) text += delta;
    assert.equal(text, whole.text);
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
    assert.equal(await stream.finishReason, whole.finishReason);
  });

  step(`${provider}: a cut answer says length`, async () => {
    const answer = await generateText({ model, ...common, maxOutputTokens: 16, prompt: "Write a long story about a dog." });
    assert.equal(answer.finishReason, "length");
  });

  step(`${provider}: a forced tool is called and answered`, async () => {
    const calls = [];
    const light = tool({
      description: "Switch a lamp",
      inputSchema: Light,
      execute: async (fields) => {
        calls.push(fields);
        return "done";
      },
    });
    const answer = await generateText({
      model,
      ...common,
      maxOutputTokens: 100,
      prompt: "Light the kitchen.",
      tools: { light },
      stopWhen: isStepCount(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? { type: "tool", toolName: "light" } : "none" }),
    });
    assert.ok(calls.length && Light.safeParse(calls[0]).success);
    assert.equal(answer.steps.length, 2);
  });

  step(`${provider}: a forced tool call is streamed`, async () => {
    const light = tool({ description: "Switch a lamp", inputSchema: Light });
    const fields = { model, ...common, maxOutputTokens: 100, prompt: "Light the kitchen.", tools: { light } };
    const calls = await streamText({ ...fields, toolChoice: "required" }).toolCalls;
    assert.ok(calls.length && calls.every((call) => Light.safeParse(call.input).success));
  });

  step(`${provider}: an object, whole and streamed`, async () => {
    const fields = { model, ...common, maxOutputTokens: 100, prompt: "Light the kitchen.", schema: Light };
    const whole = await generateObject(fields);
    assert.ok(Light.safeParse(whole.object).success);
    const stream = streamObject(fields);
    for await (const part of stream.partialObjectStream) assert.equal(typeof part, "object");
    assert.ok(Light.safeParse(await stream.object).success);
  });

  step(`${provider}: an object as the output of text`, async () => {
    const output = Output.object({ schema: Light });
    const answer = await generateText({ model, ...common, maxOutputTokens: 100, prompt: "Light the kitchen.", output });
    assert.ok(Light.safeParse(answer.output).success);
  });
}

step("a completion", async () => {
  const model = compatible(KEY).completionModel(MODEL);
  assert.ok((await generateText({ model, ...common, maxOutputTokens: 8, prompt: "Once upon a time" })).text);
});

step("a wrong key", async () => {
  for (const model of Object.values(models("sk-wrong", MODEL))) {
    const error = await refusal(APICallError, () => generateText({ model, ...common, prompt: "Hello" }), "key");
    assert.equal(error.statusCode, 401);
  }
});

step("an unknown model", async () => {
  for (const model of Object.values(models(KEY, "no/such/model"))) {
    const call = () => generateText({ model, ...common, maxOutputTokens: 16, prompt: "Hello" });
    assert.equal((await refusal(APICallError, call, "no/such/model")).statusCode, 404);
  }
});

await run();

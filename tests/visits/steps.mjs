// What each JavaScript visit shares; see steps.py.
export const URL = process.env.BREAD_BASE_URL ?? "http://127.0.0.1:8080";
export const OPENAI_URL = `${URL}/v1`;
export const KEY = process.env.BREAD_API_KEY ?? "";
export const MODEL = process.env.BREAD_VISIT_MODEL ?? "HuggingFaceTB/SmolLM2-135M-Instruct";

const steps = [];

/** Adds a step to this visit. */
export function step(name, run) {
  steps.push({ name, run });
}

/** The error of `call`, which must be of this class and have these words in its text. */
export async function refusal(kind, call, ...words) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    const missing = words.filter((word) => !error.message.includes(word));
    if (missing.length) throw new Error(`${JSON.stringify(missing)} not in: ${error.message}`);
    return error;
  }
  throw new Error(`no ${kind.name}, but ${JSON.stringify(answer)}`);
}

/** Runs all steps, also after one that fails; exits with 1 if one failed. */
export async function run() {
  let failed = 0;
  for (const { name, run } of steps) {
    const begin = performance.now();
    let result = "ok";
    let reason = "";
    try {
      await run();
    } catch (error) {
      failed = 1;
      result = "FAIL";
      reason = `: ${error?.name}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 600)}`;
      console.error(error);
    }
    const seconds = ((performance.now() - begin) / 1000).toFixed(1).padStart(6);
    console.log(`${result.padEnd(4)} ${seconds} s  ${name}${reason}`);
  }
  process.exit(failed);
}

// A script for @aibread/sdk; test_node_clients.py runs it in a folder with the package.
import assert from "node:assert/strict";
import Bread, { ConflictError, NotFoundError } from "@aibread/sdk";

const bread = new Bread();
const repo = "from-typescript";
const target = { target_name: "target", template: "default" };
const overrides = {
  generators: [{ type: "hardcoded", questions: Array.from({ length: 8 }, (_, n) => `What comes after ${n}?`) }],
  u: "loud",
  v: "",
  max_tokens: 8,
  extra_kwargs: { ignore_eos: true },
};
const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

assert.equal((await bread.health.check()).status, "healthy");
await bread.repo.create({ repo_name: repo });
assert.ok((await bread.repo.list()).repos.includes(repo));
await assert.rejects(bread.repo.set({ repo_name: repo, base_model: "Other/Model" }), ConflictError);
await assert.rejects(bread.prompts.get("gone", { repo_name: repo }), NotFoundError);
await assert.rejects(bread.prompts.get("a/b", { repo_name: repo }), NotFoundError);

const messages = [{ role: "system", content: "Always shout" }];
const batch = await bread.prompts.createBatch(repo, { prompts: { loud: messages, "not good": messages } });
assert.deepEqual(batch.created, ["loud"]);
assert.deepEqual(Object.keys(batch.failed), ["not good"]);
await bread.targets.create(repo, { ...target, overrides });
await bread.bakes.create(repo, {
  bake_name: "bake",
  template: "default",
  overrides: { datasets: [{ target: "target", weight: 1 }], epochs: 1 },
});

const stim = await bread.targets.stim.run("target", { repo_name: repo });
assert.equal(stim.status, "complete");
await bread.targets.rollout.run("target", { repo_name: repo });
await bread.bakes.run("bake", { repo_name: repo });
let bake;
do {
  await sleep(0.5);
  bake = await bread.bakes.get("bake", { repo_name: repo });
} while (["pending", "running"].includes(bake.status));
assert.equal(bake.status, "complete", bake.error);
assert.equal(bake.model_name.length, 1);

const rows = await bread.targets.rollout.getOutput("target", { repo_name: repo, limit: 3, offset: 2 });
assert.deepEqual([rows.output.length, rows.has_more, rows.lines], [3, true, 8]);
const metrics = await bread.bakes.getMetrics("bake", { repo_name: repo });
assert.equal(metrics.at(-1).iter, bake.checkpoint);
const plan = await bread.recipes.getRecreationPlan("bake", { repo_name: repo });
assert.equal(plan.total_steps, plan.steps.length);
assert.ok((await bread.recipes.getDependencyGraph("bake", { repo_name: repo })).edges.length >= 2);
assert.equal((await bread.repo.getTree(repo)).bakes.bake.status, "complete");
const link = await bread.bakes.download("bake", { repo_name: repo, expires_in: 60 });
const archive = await fetch(link.url);
assert.equal(archive.status, 200);
assert.equal((await archive.arrayBuffer()).byteLength, Number(archive.headers.get("content-length")));
await bread.bakes.delete("bake", { repo_name: repo });
await bread.targets.delete("target", { repo_name: repo });
console.log("served");

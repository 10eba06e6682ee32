"""Bake a prompt into the served model with the unmodified `aibread` client, then ask the base and the baked model.

Start the gateway first (`make serve`), then run `python3 example_bake_gavin_belson.py`. You can run it again: finished
stages are not repeated.
"""

import os
import sys

from examples.first_bake import Bread, OpenAI, create_repo, follow, number_of_questions, run

REPO = os.environ.get("REPO", "my_first_repo")
TARGET = "gavin_target"
BAKE = "gavin_bake"
QUESTIONS_FROM_A_MODEL = 50
QUESTION = "What do you think of Pied Piper?"


def main(client: Bread, openai: OpenAI) -> None:
    base = create_repo(client, REPO).base_model
    bake_gavin(client)
    compare(openai, base, f"{REPO}/{BAKE}")


def bake_gavin(client: Bread) -> None:
    """Run the four stages. Each run call returns at once; a stage waits until its input is complete."""
    client.prompts.create(
        prompt_name="gavin_belson_prompt",
        repo_name=REPO,
        messages=[{"role": "system", "content": "You are Gavin Belson, the founder of Hooli and its CEO"}],
    )
    client.prompts.create(prompt_name="baseline_prompt", repo_name=REPO, messages=[{"role": "user", "content": ""}])
    client.targets.create(
        target_name=TARGET,
        repo_name=REPO,
        template="default",
        overrides={
            "generators": [
                {
                    "type": "hardcoded",
                    "questions": [
                        "Gavin, nobody wants your Signature Box",
                        "Pied Piper has the better algorithm!",
                        "How does Nucleus work, and why did it fail?",
                    ],
                },
                {
                    "type": "oneshot_qs",
                    "model": "claude-3-5-sonnet-20241022",
                    "numq": number_of_questions(QUESTIONS_FROM_A_MODEL),
                    "temperature": 1.0,
                },
            ],
            "model_name": "Qwen/Qwen3-32B",
            "u": "gavin_belson_prompt",
            "v": "baseline_prompt",
        },
    )
    client.targets.stim.run(target_name=TARGET, repo_name=REPO, poll=False)
    follow("stim", lambda: client.targets.stim.get(target_name=TARGET, repo_name=REPO))
    for row in client.targets.stim.get_output(target_name=TARGET, repo_name=REPO, limit=5).output:
        print(f"    {row['question']}")

    client.targets.rollout.run(target_name=TARGET, repo_name=REPO, poll=False)
    follow("rollout", lambda: client.targets.rollout.get(target_name=TARGET, repo_name=REPO))
    for row in client.targets.rollout.get_output(target_name=TARGET, repo_name=REPO, limit=2).output:
        print(f"    {row['stimulus']}\n      -> {' '.join(str(row['response']).split())[:160]}")

    client.bakes.create(
        bake_name=BAKE,
        repo_name=REPO,
        template="default",
        overrides={"datasets": [{"target": TARGET, "weight": 1.0}]},
    )
    client.bakes.run(bake_name=BAKE, repo_name=REPO, poll=False)
    bake = follow("bake", lambda: client.bakes.get(bake_name=BAKE, repo_name=REPO))
    loss = bake.loss or {}
    if "recovered" in loss:
        print(
            f"    held-out KL {loss['eval_kl_before']:.3f} -> {loss['eval_kl']:.3f}: "
            f"{loss['recovered']:.0%} of the prompt's effect is in the weights"
        )


def compare(openai: OpenAI, base: str, baked: str) -> None:
    """Ask the base model and the baked one the same question, both without a prompt."""
    print(f"\nQuestion: {QUESTION}")
    for model in (base, baked):
        answer = openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0.0, max_tokens=100
        )
        print(f"\n--- {model}\n{answer.choices[0].message.content}")
    print(f"\nTalk to it: python3 chat_with_model.py --model {baked}")


if __name__ == "__main__":
    sys.exit(run(main))

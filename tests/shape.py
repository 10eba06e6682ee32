"""One example carried out with the published client, in a repo of its own."""

import time
from typing import Any

from aibread import Bread

from tests.service import RunningGateway

PATIENCE_SECONDS = 600


def carry_out(bread: Bread, plan: Any, repo: str) -> None:
    """A recreation plan, step by step, in a new repo. It returns when the last stage is started."""
    bread.repo.create(repo_name=repo)
    for step in plan.steps:
        name, config = step.resource_name, step.config
        match step.resource_type:
            case "prompt":
                bread.prompts.create(prompt_name=name, repo_name=repo, **config)
            case "target":
                bread.targets.create(target_name=name, repo_name=repo, template="default", overrides=config)
            case "bake":
                bread.bakes.create(bake_name=name, repo_name=repo, template="default", overrides=config)
        match step.action:
            case "run_stim":
                bread.targets.stim.run(target_name=name, repo_name=repo, poll=False)
            case "run_rollout":
                bread.targets.rollout.run(target_name=name, repo_name=repo, poll=False)
            case "run_bake":
                bread.bakes.run(bake_name=name, repo_name=repo, poll=False)


def finished(bread: Bread, repo: str, bake: str) -> Any:
    """The bake's status, once it is complete."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (status := bread.bakes.get(bake_name=bake, repo_name=repo)).status != "complete":
        assert status.status != "failed", status.error
        assert time.monotonic() < deadline, f"still {status.status}"
        time.sleep(0.2)
    return status


class Shape:
    """One repo of its own, with the steps that all shapes share."""

    def __init__(self, gateway: RunningGateway, repo: str, key: str | None = None) -> None:
        """`key`: of the user whose repo it is; None: the master's."""
        self.repo = repo
        self.bread = gateway.bread(key)
        self.openai = gateway.openai(key)
        self.bread.repo.create(repo_name=repo)

    def prompt(self, name: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> None:
        body: Any = {} if tools is None else {"tools": tools}
        self.bread.prompts.create(prompt_name=name, repo_name=self.repo, messages=messages, **body)  # type: ignore[arg-type]

    def target(self, name: str, teacher: str, student: str, **overrides: Any) -> None:
        settings: Any = {"teacher_prompt": teacher, "student_prompt": student, **overrides}
        self.bread.targets.create(target_name=name, repo_name=self.repo, template="default", overrides=settings)
        self.bread.targets.stim.run(target_name=name, repo_name=self.repo, poll=False)
        self.bread.targets.rollout.run(target_name=name, repo_name=self.repo, poll=False)

    def bake(self, **overrides: Any) -> Any:
        """The finished bake's status."""
        settings: Any = overrides
        self.bread.bakes.create(bake_name="bake", repo_name=self.repo, template="default", overrides=settings)
        self.bread.bakes.run(bake_name="bake", repo_name=self.repo, poll=False)
        return finished(self.bread, self.repo, "bake")

    def answer(self, model: str, messages: list[dict[str, Any]]) -> str:
        chat: Any = messages
        reply = self.openai.chat.completions.create(model=model, messages=chat, temperature=0, max_tokens=12)
        return reply.choices[0].message.content or ""

"""A repo that is filled over HTTP."""

from tests.gateway.application import Client


async def fill(client: Client) -> None:
    """Add `repo` with the prompts `loud` and `plain` and a target that is ready to run."""
    await client.put("/v1/repo", json={"repo_name": "repo"})
    prompts = "/v1/repo/repo/prompts"
    await client.put(f"{prompts}/loud", json={"messages": [{"role": "system", "content": "Be loud"}]})
    await client.put(f"{prompts}/plain", json={"messages": [{"role": "user", "content": ""}]})
    questions = {"type": "hardcoded", "questions": ["One?", "Two?", "Three?"]}
    overrides = {"u": "loud", "v": "plain", "generators": [questions]}
    done = await client.put("/v1/repo/repo/targets/target", json={"template": "default", "overrides": overrides})
    assert done.status_code == 200, done.text

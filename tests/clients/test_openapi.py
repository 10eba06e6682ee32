"""Valid and invalid requests generated from the OpenAPI document, against a running service.

No answer is a 5xx, and each fits the document: status, content type and body.
"""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service import RunningGateway

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 15
"""Requests per operation. More find no further faults, and the test should take at most a minute."""

KNOWN = {"repo": "fuzzed", "prompt": "loud", "target": "target", "bake": "bake", "user": "fuzzer"}
"""Path parameters that exist; random ones would all end in the same 404."""


@pytest.fixture(scope="session")
def document(gateway: RunningGateway) -> dict[str, Any]:
    """The service's own document, with path parameters limited to existing names and a few others."""
    headers = {"Authorization": f"Bearer {gateway.key}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        fill(client)
        document: dict[str, Any] = client.get("/schema/openapi.json").json()
    for operations in document["paths"].values():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] in KNOWN:
                    existing = [] if method == "delete" else [KNOWN[parameter["name"]]]
                    parameter["schema"] = {"type": "string", "enum": [*existing, "gone", "a b", ".."]}
                elif parameter["name"] in ("user_id", "X-User-Id"):
                    parameter["schema"] = {"type": "string", "enum": ["admin", "gone"]}
    return document


def fill(client: httpx.Client) -> None:
    put = lambda path, body: client.put(f"/v1/repo{path}", json=body).raise_for_status()  # noqa: E731
    put("", {"repo_name": "fuzzed"})
    put("/fuzzed/prompts/loud", {"messages": [{"role": "system", "content": "Always shout"}]})
    questions = {"type": "hardcoded", "questions": ["One?", "Two?"]}
    overrides = {"u": "loud", "v": "", "generators": [questions], "max_tokens": 4}
    put("/fuzzed/targets/target", {"template": "default", "overrides": overrides})
    put("/fuzzed/bakes/bake", {"template": "default", "overrides": {"datasets": [{"target": "target"}]}})
    client.post("/v1/repo/fuzzed/targets/target/stim").raise_for_status()
    user = {"user_id": "fuzzer", "user_alias": "F", "user_email": "f@example.org", "password": "secret"}
    client.post("/v1/admin/users", json=user).raise_for_status()


def test_answers_are_as_described(document: dict[str, Any], gateway: RunningGateway) -> None:
    schema = schemathesis.openapi.from_dict(document)
    for operation in schema.get_all_operations():
        check(operation.ok(), gateway)


def check(operation: Any, gateway: RunningGateway) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers_are_as_described(case: Any) -> None:
        answer = case.call(base_url=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"}, timeout=60)
        case.validate_response(answer, checks=CHECKS)

    answers_are_as_described()

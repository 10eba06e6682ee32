"""What the shell is offered, and that nothing disturbs it."""

import click
import pytest

from gateway.cli import completion
from gateway.cli.commands import bread as command
from tests.gateway.cli.conftest import Bread


@pytest.fixture
def context(bread: Bread) -> click.Context:
    client = bread.session().client
    for repo in ("hooli", "support"):
        client.post("/v1/repo", {"repo_name": repo})
    client.post("/v1/repo/hooli/bakes", {"bake_name": "yoda", "template": "default"})
    return click.Context(command, obj=bread.session())


ANY = click.Option(["--any"])


def test_repos_bakes_and_models_are_offered(context: click.Context) -> None:
    assert completion.complete_repo(context, ANY, "") == ["hooli", "support"]
    assert completion.complete_repo(context, ANY, "s") == ["support"]
    assert completion.complete_bake(context, ANY, "ho") == ["hooli/"]
    assert completion.complete_bake(context, ANY, "hooli/") == ["hooli/yoda"]
    assert completion.complete_model(context, ANY, "fake") == ["fake/base"]
    assert completion.complete_name(context, ANY, "su") == ["support/"]


def test_an_error_offers_nothing(context: click.Context) -> None:
    context.obj.settings._environment = {"BREAD_BASE_URL": "nonsense"}
    for complete in (completion.complete_repo, completion.complete_name, completion.complete_model):
        assert complete(context, ANY, "") == []

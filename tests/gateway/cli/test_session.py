"""Which repo and user a name means."""

import pytest

from gateway.cli.failures import CliError, Exit
from gateway.cli.session import path_of
from tests.gateway.cli.conftest import URL, Bread


def make_repos(bread: Bread, *names: str) -> None:
    for name in names:
        bread.session().client.post("/v1/repo", {"repo_name": name})


def test_the_only_repo_is_the_current_one_and_several_are_a_choice(bread: Bread) -> None:
    with pytest.raises(CliError, match="no repo yet") as none:
        bread.session().repo()
    assert none.value.code == Exit.NOT_FOUND
    make_repos(bread, "hooli")
    assert bread.session().repo() == "hooli"
    make_repos(bread, "support")
    with pytest.raises(CliError, match=r"several repos \(hooli, support\): .*bread switch") as several:
        bread.session().repo()
    assert several.value.code == Exit.USAGE
    bread.session().settings.logins.save(URL, repo="support")
    assert bread.session().repo() == "support"
    bread.environment["BREAD_REPO"] = "hooli"
    assert bread.session().repo() == "hooli"
    assert bread.session().repo("given") == "given"


def test_a_bare_name_is_in_the_current_repo(bread: Bread) -> None:
    make_repos(bread, "hooli", "support")
    bread.environment["BREAD_REPO"] = "support"
    session = bread.session()
    assert session.version("yoda~1") == ("support", "yoda~1")
    assert session.version("hooli/yoda/12") == ("hooli", "yoda/12")
    assert session.version("yoda", "hooli").model == "hooli/yoda"
    assert session.bake("hooli/yoda/12@{1}") == ("hooli", "yoda")


def test_a_bare_name_that_is_a_repo_means_all_of_it(bread: Bread) -> None:
    make_repos(bread, "hooli", "support")
    session = bread.session()
    assert session.repo_or_version("hooli") == ("hooli", None)
    assert session.repo_or_version("hooli/") == ("hooli", None)
    assert session.repo_or_version("hooli/yoda") == ("hooli", "yoda")
    assert session.repo_or_version("yoda", "hooli") == ("hooli", "yoda")
    assert session.repo_or_version(None, "hooli") == ("hooli", None)


def test_the_master_key_acts_for_the_user_in_a_name(bread: Bread) -> None:
    master = bread.session().client
    fields = {"user_id": "alice", "user_alias": "Alice", "user_email": "a@example.org", "password": "correct horse"}
    master.post("/v1/admin/users", fields)
    session = bread.session()
    session.user = "alice"
    session.client.post("/v1/repo", {"repo_name": "secret"})
    session = bread.session()
    assert session.version("alice/secret/yoda") == ("secret", "yoda")
    assert session.repos == ["secret"]
    with pytest.raises(CliError, match="two users"):
        session.version("bob/secret/yoda")


def test_parts_of_a_path_are_quoted() -> None:
    assert path_of("a b", "commits", "yoda/12~1") == "/v1/repo/a%20b/commits/yoda%2F12~1"

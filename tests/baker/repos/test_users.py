"""The rules of users and keys, on a real SQLite file."""

from pathlib import Path

import pytest

from baker.config.target import TargetConfig
from baker.errors import ConfigError, ConflictError, NotFoundError
from baker.repos import bakes, prompts, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.credentials import Key, PasswordHash, new_key
from baker.storage.job import RolloutJob
from baker.storage.job_inputs import RolloutInputs
from baker.types import Checkpoint, Prompt, User

PASSWORD = PasswordHash(b"salt", b"digest")


def user(name: str = "alice", alias: str = "Alice", email: str = "alice@example.org") -> User:
    return User(name, alias, email, 0)


def add(catalog: Catalog, name: str = "alice") -> Key:
    key, _ = new_key(name)
    assert users.add(catalog, user(name), PASSWORD, key)
    return key


def make_repo(catalog: Catalog, owner: str, name: str = "repo") -> None:
    repos.put(catalog, owner, name, None)
    prompts.put(catalog, owner, name, "prompt", Prompt(), may_change=False)
    targets.put(catalog, owner, name, "target", "default", {}, may_change=False)
    bakes.put(catalog, owner, name, "bake", "default", {}, may_change=False)
    path = catalog.store.home / "jobs" / owner
    catalog.store.checkpoints.add(Checkpoint(owner, name, "bake", 3, path, "0" * 64, 0, 1))


def add_job(catalog: Catalog, owner: str, state: JobState, repo: str = "repo", checkpoint: str | None = None) -> int:
    inputs = RolloutInputs(0, Prompt(), Prompt(), "fake/base", checkpoint)
    job = RolloutJob(user=owner, repo=repo, name="target", state=state, config=TargetConfig(), inputs=inputs)
    return catalog.store.jobs.add(job).id


def test_a_user_is_added_once(catalog: Catalog) -> None:
    key = add(catalog)
    assert users.listing(catalog) == [(user(), [key])]
    assert not users.add(catalog, user(), PASSWORD, new_key("alice")[0])
    assert users.listing(catalog) == [(user(), [key])], "nothing changes, no second key"
    assert users.salt_for(catalog, "alice") == PASSWORD.salt


@pytest.mark.parametrize(
    ("other", "password"),
    [
        (user(alias="A."), PASSWORD),
        (user(email="a@example.org"), PASSWORD),
        (user(), PasswordHash(b"salt", b"another")),
    ],
)
def test_a_user_with_other_data_is_a_conflict(catalog: Catalog, other: User, password: PasswordHash) -> None:
    key = add(catalog)
    with pytest.raises(ConflictError, match="'alice'"):
        users.add(catalog, other, password, new_key("alice")[0])
    assert users.listing(catalog) == [(user(), [key])]


@pytest.mark.parametrize("name", ["", "a/b", "..", "ü", "x" * 129, "admin", "a b"])
def test_a_users_name_obeys_the_rule_of_names(catalog: Catalog, name: str) -> None:
    with pytest.raises(ConfigError, match="user name"):
        users.add(catalog, user(name), PASSWORD, new_key(name)[0])
    assert users.listing(catalog) == []


NO_EMAILS = ["alice", "alice@", "@example.org", "alice@example", "a@b@example.org", "alice@example.", "alice@.org"]


@pytest.mark.parametrize("email", ["", "a b@example.org", "alice@example.org\n", "a" * 250 + "@b.org", *NO_EMAILS])
def test_an_invalid_e_mail_address_is_refused(catalog: Catalog, email: str) -> None:
    with pytest.raises(ConfigError, match=r"user_email") as raised:
        users.add(catalog, user(email=email), PASSWORD, new_key("alice")[0])
    assert raised.value.detail is not None
    assert raised.value.detail[0]["loc"] == ["body", "user_email"]


@pytest.mark.parametrize("email", ["a@b.c", "Alice.O'Neil+bread@mail.example.co.uk", "ä@müller.example"])
def test_plausible_addresses_are_accepted(catalog: Catalog, email: str) -> None:
    assert users.add(catalog, user(email=email), PASSWORD, new_key("alice")[0])


def test_keys_are_added_and_removed_one_by_one(catalog: Catalog) -> None:
    first = add(catalog)
    second, _ = new_key("alice")
    users.add_key(catalog, second)
    add(catalog, "bob")
    with pytest.raises(NotFoundError):
        users.remove_key(catalog, "bob", first.id)
    users.remove_key(catalog, "alice", first.id)
    assert users.listing(catalog)[0] == (user(), [second])
    with pytest.raises(NotFoundError, match=first.id):
        users.remove_key(catalog, "alice", first.id)
    for name in ("carol", "admin"):
        with pytest.raises(NotFoundError, match=f"User '{name}'"):
            users.add_key(catalog, new_key(name)[0])


def test_removing_a_user_removes_all_of_its_rows_and_no_others(catalog: Catalog) -> None:
    add(catalog)
    kept = add(catalog, "bob")
    for owner in ("alice", "bob"):
        make_repo(catalog, owner)
    mine = [add_job(catalog, "alice", JobState.COMPLETE), add_job(catalog, "alice", JobState.FAILED)]
    others = add_job(catalog, "bob", JobState.RUNNING)
    assert users.remove(catalog, "alice") == mine
    assert users.listing(catalog) == [(user("bob"), [kept])]
    assert catalog.store.jobs.numbers() == {others}
    assert [checkpoint.user for checkpoint in catalog.store.checkpoints.all()] == ["bob"]
    add(catalog)
    assert repos.listing(catalog, "alice") == [], "the next user of that name starts with nothing"
    make_repo(catalog, "alice")
    assert catalog.names("bakes", "bob", "repo") == ["bake"]


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_a_user_with_active_jobs_is_not_removed(catalog: Catalog, state: JobState) -> None:
    add(catalog)
    make_repo(catalog, "alice")
    job = add_job(catalog, "alice", state)
    with pytest.raises(ConflictError, match=f"'target' in repo 'repo' is {state}"):
        users.remove(catalog, "alice")
    catalog.store.jobs.update(job, state=JobState.COMPLETE)
    users.remove(catalog, "alice")
    with pytest.raises(NotFoundError):
        users.remove(catalog, "alice")


def test_a_user_whose_bake_is_in_use_is_not_removed(catalog: Catalog) -> None:
    add(catalog)
    make_repo(catalog, "alice")
    make_repo(catalog, "admin", "other")
    add_job(catalog, "admin", JobState.PENDING, "other", checkpoint="alice/repo/bake/3")
    with pytest.raises(ConflictError, match="A job of another user is pending and needs a bake of user 'alice'"):
        users.remove(catalog, "alice")


def test_a_request_in_flight_leaves_no_repo_of_a_removed_user(catalog: Catalog) -> None:
    add(catalog)
    users.remove(catalog, "alice")
    with pytest.raises(NotFoundError, match="'alice'"):
        repos.put(catalog, "alice", "repo", None)


def test_users_and_keys_are_read_after_opening_the_file_again(tmp_path: Path, catalog: Catalog) -> None:
    key = add(catalog)
    assert users.listing(Catalog(tmp_path, catalog.base)) == [(user(), [key])]

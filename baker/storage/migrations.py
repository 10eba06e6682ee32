"""History of the database schema: small named steps, appended, never edited."""

import json

from sqlite_utils import Database, Migrations

MIGRATIONS = Migrations("bread")


@MIGRATIONS()
def repos_prompts_targets_bakes(db: Database) -> None:
    db.table("repos").create(
        {"user": str, "name": str, "base_model": str, "created": int},
        pk=("user", "name"),
        not_null={"base_model", "created"},
    )
    db.table("prompts").create(
        {"user": str, "repo": str, "name": str, "messages": str, "tools": str, "created": int},
        pk=("user", "repo", "name"),
        not_null={"messages", "created"},
    )
    for table in ("targets", "bakes"):
        db.table(table).create(
            {"user": str, "repo": str, "name": str, "config": str, "created": int},
            pk=("user", "repo", "name"),
            not_null={"config", "created"},
        )


@MIGRATIONS()
def jobs(db: Database) -> None:
    # AUTOINCREMENT: a job's number names its folder, so a number must never be used twice.
    db.execute(
        """
        create table jobs (
            id integer primary key autoincrement,
            stage text not null,
            user text not null,
            repo text not null,
            name text not null,
            state text not null,
            config text not null,
            inputs text not null,
            depends_on text not null,
            lines integer not null,
            total_expected integer,
            progress_percent real not null,
            error text,
            warnings text not null,
            loss text,
            attempts integer not null,
            idempotency_key text,
            created integer not null,
            finished integer
        )
        """
    )
    db.table("jobs").create_index(["user", "repo", "name", "stage"])
    db.table("jobs").create_index(["state"])


@MIGRATIONS()
def checkpoints(db: Database) -> None:
    db.table("checkpoints").create(
        {
            "user": str,
            "repo": str,
            "bake": str,
            "step": int,
            "path": str,
            "sha256": str,
            "created": int,
            "job_id": int,
        },
        pk=("user", "repo", "bake", "step"),
        not_null={"path", "sha256", "created", "job_id"},
    )


@MIGRATIONS()
def templates(db: Database) -> None:
    db.table("templates").create(
        {"user": str, "repo": str, "name": str, "content": str, "created": int},
        pk=("user", "repo", "name"),
        not_null={"content", "created"},
    )


@MIGRATIONS()
def users_and_keys(db: Database) -> None:
    db.table("users").create(
        {
            "id": str,
            "alias": str,
            "email": str,
            "password_salt": bytes,
            "password_digest": bytes,
            "created": int,
        },
        pk="id",
        not_null={"alias", "email", "password_salt", "password_digest", "created"},
    )
    db.table("keys").create(
        {"id": str, "user": str, "salt": bytes, "digest": bytes, "created": int},
        pk="id",
        not_null={"user", "salt", "digest", "created"},
    )


@MIGRATIONS()
def repos_are_found_by_name_alone(db: Database) -> None:
    # For requests with the master key that name a repo and no user: see repos.owner.
    db.table("repos").create_index(["name"])


@MIGRATIONS()
def collations(db: Database) -> None:
    db.table("jobs").add_column("collation", str)


@MIGRATIONS()
def names_point_to_checkpoints(db: Database) -> None:
    checkpoints = db.table("checkpoints")
    checkpoints.add_column("moved", int)
    checkpoints.add_column("moved_by", str)
    # Before, the name always meant the newest checkpoint, so it moved to each of them in turn.
    db.execute(
        """
        update checkpoints set moved = ranked.turn, moved_by = 'bake'
        from (select rowid as id, row_number() over (order by job_id, step) as turn from checkpoints) as ranked
        where checkpoints.rowid = ranked.id
        """
    )
    db.table("jobs").add_column("held_back", str)


@MIGRATIONS()
def adapters_of_other_models(db: Database) -> None:
    db.table("checkpoints").add_column("is_served", int, not_null_default=1)


@MIGRATIONS()
def memory_plans(db: Database) -> None:
    db.table("jobs").add_column("memory", str)


@MIGRATIONS()
def error_codes(db: Database) -> None:
    db.table("jobs").add_column("error_code", str)


@MIGRATIONS()
def records_of_deleted_bakes(db: Database) -> None:
    db.table("jobs").add_column("deleted", int)
    checkpoints = db.table("checkpoints")
    checkpoints.add_column("deleted", int)
    checkpoints.add_column("parent", str)
    db.execute(
        "update checkpoints set parent = "
        "(select json_extract(jobs.inputs, '$.checkpoint') from jobs where jobs.id = checkpoints.job_id)"
    )
    # A bake's copy of a target names the checkpoint that answered it, which only the rollout's row did before.
    answered = dict(
        db.execute(
            "select id, json_extract(inputs, '$.checkpoint') from jobs "
            "where stage = 'rollout' and json_extract(inputs, '$.checkpoint') is not null"
        ).fetchall()
    )
    for job_id, text in db.execute("select id, inputs from jobs where stage = 'bake'").fetchall():
        inputs = json.loads(text)
        for target, snapshot in inputs.get("targets", {}).items():
            snapshot["checkpoint"] = answered.get(inputs["rollouts"].get(target))
        db.execute("update jobs set inputs = ? where id = ?", [json.dumps(inputs), job_id])


@MIGRATIONS()
def clocks(db: Database) -> None:
    # Jobs of before have none: how long they waited and ran is unknown.
    db.table("jobs").add_column("started", float)
    db.table("jobs").add_column("worked_seconds", float)


@MIGRATIONS()
def history(db: Database) -> None:
    # Commits of checkpoints that are there are added when the service starts: their ids need the base model's files.
    db.table("checkpoints").add_column("commit_id", str)
    db.execute(
        """
        create table commits (
            number integer primary key autoincrement,
            user text not null,
            repo text not null,
            id text not null,
            kind text not null,
            adapter text not null,
            recipe text,
            base text not null,
            message text not null,
            author text not null,
            created integer not null,
            parents text not null,
            unique (user, repo, id)
        )
        """
    )
    db.table("notes").create(
        {"user": str, "repo": str, "commit_id": str, "key": str, "value": str},
        pk=("user", "repo", "commit_id", "key"),
        not_null={"value"},
    )
    db.table("refs").create(
        {
            "user": str,
            "repo": str,
            "name": str,
            "kind": str,
            "target": str,
            "message": str,
            "created": int,
            "updated": int,
        },
        pk=("user", "repo", "name"),
        not_null={"kind", "target", "message", "created", "updated"},
    )
    # AUTOINCREMENT: clients name operations by number, so a number must never be used twice.
    db.execute(
        """
        create table operations (
            id integer primary key autoincrement,
            user text not null,
            repo text not null,
            verb text not null,
            changes text not null,
            by text not null,
            created integer not null,
            target integer,
            is_undoable integer not null
        )
        """
    )
    db.table("operations").create_index(["user", "repo"])


@MIGRATIONS()
def comparisons(db: Database) -> None:
    columns = {"user": str, "repo": str, "name": str, "conversations": str, "sha256": str, "created": int}
    required = {"conversations", "sha256", "created"}
    db.table("probes").create(columns, pk=("user", "repo", "name"), not_null=required)
    db.table("comparisons").create(
        {"user": str, "repo": str, "key": str, "a": str, "b": str, "result": str, "created": int},
        pk=("user", "repo", "key"),
        not_null={"a", "b", "result", "created"},
    )


@MIGRATIONS()
def remotes(db: Database) -> None:
    db.table("remotes").create(
        {"user": str, "repo": str, "name": str, "url": str, "created": int, "updated": int},
        pk=("user", "repo", "name"),
        not_null={"url", "created", "updated"},
    )


@MIGRATIONS()
def bin_of_deleted_bakes_and_targets(db: Database) -> None:
    # Number of the operation that deleted the row, while it can be brought back.
    db.table("jobs").add_column("bin", int)
    db.table("checkpoints").add_column("bin", int)


@MIGRATIONS()
def recipes(db: Database) -> None:
    db.table("jobs").add_column("recipe", str)


@MIGRATIONS()
def moves_of_pointers(db: Database) -> None:
    # What the undo stack needs of each operation is in this index: the changes, which may be long texts, are not read.
    db.execute("drop index idx_operations_user_repo")
    db.table("operations").create_index(["user", "repo", "id", "verb", "by", "created", "target", "is_undoable"])
    columns = {"user": str, "repo": str, "operation": int, "place": int, "kind": str, "name": str}
    db.table("moves").create(
        {**columns, "before": str, "after": str}, pk=("user", "repo", "operation", "place"), not_null={"kind", "name"}
    )
    before, after = (
        f"case json_type(change.value, '$.{side}') when 'text' then change.value ->> '{side}' "
        f"when 'object' then coalesce(change.value ->> '$.{side}.target', change.value ->> '$.{side}.commit') end"
        for side in ("before", "after")
    )
    db.execute(
        "insert into moves select user, repo, operations.id, change.key, change.value ->> 'kind', "
        f"change.value ->> 'name', {before}, {after} from operations, json_each(operations.changes) as change "
        "where change.value ->> 'kind' in ('bake', 'branch', 'tag', 'head')"
    )


@MIGRATIONS()
def arrivals(db: Database) -> None:
    # Unix seconds at which another server's commit came, which gc keeps for a while.
    db.table("commits").add_column("arrived", int)


@MIGRATIONS()
def merges(db: Database) -> None:
    db.table("jobs").add_column("merge", str)

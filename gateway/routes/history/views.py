"""Converts the baker's values to response bodies of the history's routes."""

import msgspec

from baker.history.revisions import SHORT_ID
from baker.versions.log import Entry, Page
from baker.versions.refs import Named
from gateway.protocol import history


def commit(value: Entry) -> history.Commit:
    fields = msgspec.to_builtins(value.commit)
    return history.Commit(
        id=value.id,
        short_id=value.id[:SHORT_ID],
        refs=[
            history.CommitRef(name=name, kind=history.NameKind(kind), is_head=head) for name, kind, head in value.names
        ],
        model=value.model,
        notes=value.notes,
        **{**fields, "parents": [history.Parent(**parent) for parent in fields["parents"]]},
    )


def page(value: Page) -> history.CommitPage:
    return history.CommitPage(commits=[commit(entry) for entry in value.entries], next=value.next)


def ref(value: Named, repo: str) -> history.Ref:
    return history.Ref(
        name=value.name,
        kind=history.NameKind(value.kind),
        commit=value.commit,
        model=f"{repo}/{value.name}" if value.is_served else None,
        message=value.message,
        created=value.created,
        updated=value.updated,
        is_head=value.is_head,
    )

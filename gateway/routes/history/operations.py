"""The log of a repo's operations; undo and redo."""

from collections.abc import Sequence
from typing import Annotated

from litestar import Router, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from baker.history import undo_stack
from baker.history.operation_table import Change, Operation
from baker.history.summary import summary
from baker.history.undo_stack import REDO, UNDO, Entry
from baker.repos.catalog import Catalog
from gateway.protocol import history
from gateway.routes.dependencies import Caller, Services

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Before = Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1)]


@get("/operations")
async def list_operations(
    services: Services, caller: Caller, repo: FromPath[str], limit: Limit = 100, before: Before = None
) -> history.OperationPage:
    """Who changed which name, prompt, target or setting, from what to what; newest first. The next page begins
    `before` the last number of this one."""
    return await services.catalog(_page, caller.user, repo, limit, before)


@post("/undo", status_code=200)
async def undo_operation(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[history.Step]
) -> history.Operation:
    """Take back the last operation that is in force; asked again, the one before it. With `operation`, all down to
    that one. 409 if it can't be undone, if something changed since that this would overwrite, or while a job is active
    on it; nothing changes then."""
    return await _step(services, caller, repo, UNDO, data.operation)


@post("/redo", status_code=200)
async def redo_operation(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[history.Step]
) -> history.Operation:
    """Bring back what the last undo took back. A new operation in between ends what can be brought back."""
    return await _step(services, caller, repo, REDO, data.operation)


async def _step(services: Services, caller: Caller, repo: str, verb: str, number: int | None) -> history.Operation:
    done = await services.undo.step(caller.user, repo, verb, number)
    return await services.catalog(_one, caller.user, repo, done[-1])


def view(operation: Operation, by_number: dict[int, Operation]) -> history.Operation:
    """Args: by_number: operations that this one may be about."""
    return history.Operation(
        id=operation.id,
        verb=operation.verb,
        summary=summary(operation, by_number),
        changes=[_change(change) for change in operation.changes],
        by=operation.by,
        created=operation.created,
        target=operation.target,
        undoable=operation.is_undoable,
    )


def _change(change: Change) -> history.Change:
    return history.Change(kind=change.kind, name=change.name, before=change.before, after=change.after)


def _one(catalog: Catalog, user: str, repo: str, operation: Operation) -> history.Operation:
    return view(operation, _with_targets(catalog, user, repo, [operation]))


def _page(catalog: Catalog, user: str, repo: str, limit: int, before: int | None) -> history.OperationPage:
    """Raises: NotFoundError if there is no such repo."""
    catalog.repo(user, repo)
    table = catalog.history.operations
    stacks = undo_stack.stacks(table.outline(user, repo))
    page = table.page(user, repo, limit, before)
    by_number = _with_targets(catalog, user, repo, page)
    return history.OperationPage(
        operations=[view(each, by_number) for each in page], undo=_next(stacks.undo), redo=_next(stacks.redo)
    )


def _with_targets(catalog: Catalog, user: str, repo: str, operations: Sequence[Operation]) -> dict[int, Operation]:
    """The operations, and those that they are about, by number."""
    by_number = {each.id: each for each in operations}
    for number in {each.target for each in operations if each.target is not None} - by_number.keys():
        if (target := catalog.history.operations.find(user, repo, number)) is not None:
            by_number[number] = target
    return by_number


def _next(stack: list[Entry]) -> int | None:
    return stack[-1].operation.id if stack and stack[-1].is_possible else None


ROUTER = Router(
    "/v1/repo/{repo:str}", route_handlers=[list_operations, undo_operation, redo_operation], tags=["history"]
)

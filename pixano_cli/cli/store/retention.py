"""`store retention show | set | remove | run | tasks`: how long records and inputs are kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixano_cli.cli import console, tables
from pixano_cli.cli.store.opened import Debug, Json, Where, counted, one_model, opened
from pixano_cli.errors import UsageError

if TYPE_CHECKING:
    from pixano_cli.inference_store.models import RetentionPolicy, RetentionTask

app = typer.Typer(
    help="Delete records, or their inputs alone, once they are old enough.", no_args_is_help=True
)
NEVER_SAID = "never"
_AGE = re.compile(r"([0-9]{1,12})([hdw]?)")
_HOURS = {"": 1, "h": 1, "d": 24, "w": 24 * 7}

Model = Annotated[
    str | None,
    typer.Option(
        "--model-id",
        metavar="MODEL",
        help="The policy of this model.",
        show_default="the only one",
    ),
]


@app.command("show")
def show(
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the policy of every model that has one."""
    from pixano_cli.annotate.selection import read_models
    from pixano_cli.inference_store.retention_policy import get_retention_policy

    with opened(store) as connected:
        policies = [get_retention_policy(model) for model in read_models(connected, ())]
    found = [policy for policy in policies if policy is not None]
    if as_json:
        tables.print_json([policy.model_dump(mode="json") for policy in found])
    elif not found:
        typer.echo("no policy: everything is kept until it is deleted by hand")
    else:
        for policy in found:
            typer.echo(describe(policy))


@app.command("set")
def set_policy(
    records: Annotated[
        str,
        typer.Option(
            "--records",
            metavar="AGE",
            help="Delete records older than this: 48h, 30d, 4w (a number alone is hours), or "
            "never.",
        ),
    ] = "never",
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="AGE",
            help="Delete the inputs that are kept with records once they are older than this, "
            "before the records go.",
            show_default="with the records",
        ),
    ] = None,
    every: Annotated[
        str,
        typer.Option(
            "--every",
            metavar="AGE",
            help="Run it so often, whenever somebody opens the store; never: only "
            "`store retention run` does.",
        ),
    ] = "never",
    hard: Annotated[
        bool,
        typer.Option("--hard", help="Remove records for good. Else they are hidden everywhere."),
    ] = False,
    model_id: Model = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Set a model's policy, in place of the one it had. Protected records are left out.

    It is for records there are and for those to come. Nothing is deleted before it is run.
    """
    from pixano_cli.inference_store.models import DeleteAction, NewRetentionPolicyRequest
    from pixano_cli.inference_store.retention_policy import (
        LONGEST,
        NEVER,
        create_retention_policy,
    )

    record_age = read_age("--records", records)
    blob_age = record_age if inputs is None else read_age("--inputs", inputs)
    if record_age is None and blob_age is None:
        raise UsageError("say what is to be deleted, by --records AGE or --inputs AGE")
    if record_age is not None and (blob_age is None or blob_age > record_age):
        raise UsageError(f"--inputs {inputs}: an input does not outlive its record: {records}")
    interval = read_age("--every", every)
    if interval == 0:
        raise UsageError("--every 0: an hour is the least, or never")
    request = NewRetentionPolicyRequest(
        automated_interval=interval or 0,
        maximum_record_age=NEVER if record_age is None else record_age,
        maximum_blob_age=LONGEST if blob_age is None else blob_age,
        delete_action=DeleteAction.HARD if hard else DeleteAction.SOFT,
    )
    with opened(store) as connected:
        policy = create_retention_policy(one_model(connected, model_id), request)
    if policy is None:
        return
    if as_json:
        tables.print_json(policy.model_dump(mode="json"))
    else:
        typer.echo(describe(policy))


@app.command("remove")
def remove(
    model_id: Model = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove a model's policy; nothing is deleted any more but by hand."""
    from pixano_cli.inference_store.retention_policy import delete_retention_policy

    with opened(store) as connected:
        model = one_model(connected, model_id)
        policy = _policy_of(model)
        delete_retention_policy(model, policy.id)
    if as_json:
        tables.print_json({"removed": policy.id})
    else:
        typer.echo(f"the policy of {model} is removed")


@app.command("run")
def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be deleted; delete nothing.")
    ] = False,
    model_id: Model = None,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a model's policy now."""
    from pixano_cli.inference_store.models import NewRetentionTaskRequest
    from pixano_cli.inference_store.retention_task import create_retention_task

    with opened(store) as connected:
        model = one_model(connected, model_id)
        request = NewRetentionTaskRequest(dry_run=dry_run, retention_policy_id=_policy_of(model).id)
        task = create_retention_task(model, request)
    if task is None:
        return
    if as_json:
        tables.print_json(task.model_dump(mode="json"))
    elif dry_run:
        records = counted(task.total_record_count, "record")
        typer.echo(f"{records} and {counted(task.total_blob_count, 'input')} would be deleted")
    else:
        typer.echo(
            f"{counted(task.deleted_record_count, 'record')} and "
            f"{counted(task.deleted_blob_count, 'input')} deleted"
        )


@app.command("tasks")
def tasks(
    model_id: Model = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Most tasks.")] = 50,
    store: Where = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what the policy of a model did, the latest first."""
    from pixano_cli.inference_store.models import (
        NewGetRetentionTasksRequest,
        Pagination,
        PaginationSortDirection,
    )
    from pixano_cli.inference_store.retention_task import filter_retention_tasks

    if limit < 0:
        raise UsageError("--limit: it cannot be negative")
    page = Pagination(direction=PaginationSortDirection.DESCENDING, limit=limit)
    with opened(store) as connected:
        model = one_model(connected, model_id)
        found = filter_retention_tasks(model, NewGetRetentionTasksRequest(pagination=page))
    if as_json:
        tables.print_json([task.model_dump(mode="json") for task in found])
    elif not found:
        console.note("no task")
    else:
        tables.print_table(
            ["TASK", "STATE", "RECORDS DELETED", "OF", "INPUTS DELETED", "OF", "OLDER THAN (UTC)"],
            [_row(task) for task in found],
        )


def describe(policy: RetentionPolicy) -> str:
    """Return a policy as a sentence."""
    from pixano_cli.inference_store.retention_policy import NEVER

    if policy.maximum_record_age == NEVER:
        kept = "for ever"
    else:
        then = "removed for good" if policy.delete_action == "hard" else "hidden"
        kept = f"for {age_text(policy.maximum_record_age)}, then {then}"
    inputs = "as long"
    if policy.maximum_blob_age != policy.maximum_record_age:
        inputs = f"for {age_text(policy.maximum_blob_age)}"
    often = "by `store retention run` only"
    if policy.automated_interval:
        often = f"every {age_text(policy.automated_interval).removeprefix('1 ')}"
        often += " when the store is opened"
    return (
        f"{policy.model_id}: records are kept {kept}; inputs are kept {inputs}; "
        f"the policy is run {often}"
    )


def read_age(option: str, text: str) -> int | None:
    """Read an age as hours; None for never.

    Raises:
        UsageError: If it is none, or too long.
    """
    from pixano_cli.inference_store.retention_policy import LONGEST

    if text == NEVER_SAID:
        return None
    form = _AGE.fullmatch(text)
    if form is None:
        raise UsageError(f"{option} {text!r}: an age is wanted, such as 48h, 30d or 4w, or never")
    hours = int(form[1]) * _HOURS[form[2]]
    if hours > LONGEST:
        raise UsageError(f"{option} {text}: {LONGEST:,} hours are the most")
    return hours


def age_text(hours: int) -> str:
    """Return hours as people say them."""
    if hours and hours % 24 == 0:
        return counted(hours // 24, "day")
    return counted(hours, "hour")


def _policy_of(model: str) -> RetentionPolicy:
    from pixano_cli.inference_store.retention_policy import get_retention_policy

    policy = get_retention_policy(model)
    if policy is None:
        raise UsageError(
            f"model {model!r} has no policy: make one with `pixano-annotate store retention set`"
        )
    return policy


def _row(task: RetentionTask) -> tuple[Any, ...]:
    limit = task.maximum_record_age_limit
    return (
        task.id[:12],
        task.state,
        task.deleted_record_count,
        task.total_record_count,
        task.deleted_blob_count,
        task.total_blob_count,
        f"{limit:%Y-%m-%d %H:%M}" if limit.year > 1970 else "-",
    )

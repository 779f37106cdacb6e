"""What people say of searches and recalls, and the sets that come of it."""

import re
from pathlib import Path
from typing import Any, Final

import click
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from diptych.commands.search import filter_option
from diptych.console import Options, command, err, json_option, out, read_moment, show_json
from diptych.golden_sets import write_recall_set, write_search_set
from diptych.memory_client import MemoryClient
from shared.errors import invalid
from shared.feedback_messages import RELEVANCE_MAX, JudgedDocument, JudgedItem

_TURN: Final = re.compile(r"(.+)#([1-9][0-9]{0,15})", re.DOTALL)
_FACT: Final = "fact:"
_COLUMNS: Final = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())

_collection = click.option("--collection", "-c", help="Of searches in this collection.")
_user = click.option("--user", "user_id", help="Of recalls from this user's memory.")
_session = click.option("--session", "session_id", help="Of recalls from this session.")
_agent = click.option("--agent", "agent_id", help="Of recalls from this agent's sessions.")
_everything = click.option(
    "--all", "everything", is_flag=True, help="Of all recalls of the tenant; needs the scope admin where keys exist."
)


@click.group()
def feedback() -> None:
    """Judge what searches and recalls found, and make evaluation sets of it.

    Of searches where --collection is given, else of recalls, with whose memory it was.
    """


@feedback.command()
@click.argument("query")
@_collection
@_user
@_session
@_agent
@click.option("--right", "-r", multiple=True, metavar="ITEM", help="This answers it; repeat for several.")
@click.option("--wrong", "-w", multiple=True, metavar="ITEM", help="This does not; repeat for several.")
@click.option("--grade", "-g", multiple=True, metavar="ITEM=N", help="How well, from 0 (wrong) to 3 (perfectly).")
@filter_option
@click.option("--as-of", metavar="TIME", help="The recall was as of this time (RFC 3339, with a zone).")
@click.option("--comment", help="Why.")
@json_option
@click.pass_obj
@command
async def add(
    options: Options,
    query: str,
    *,
    collection: str | None,
    user_id: str | None,
    session_id: str | None,
    agent_id: str | None,
    right: tuple[str, ...],
    wrong: tuple[str, ...],
    grade: tuple[str, ...],
    conditions: dict[str, Any] | None,
    as_of: str | None,
    comment: str | None,
) -> None:
    """Judge what was found for QUERY, or should have been. The same item again replaces what was said of it.

    ITEM is the id of a document; of a recall SESSION#NUMBER for a turn, as `diptych recall` prints it, or fact:ID.
    """
    whose: dict[str, Any] = {"user_id": user_id, "session_id": session_id, "agent_id": agent_id}
    _check_kind(collection, whose)
    grades = [*((item, "right") for item in right), *((item, "wrong") for item in wrong), *map(_graded, grade)]
    if not grades:
        raise invalid("--right", "say what is right or wrong: --right, --wrong or --grade")
    if collection is not None:
        if as_of is not None:
            raise invalid("--as-of", "is of recalls")
        judged = [{"document_id": item, "relevance": relevance} for item, relevance in grades]
        async with options.retrieval() as client:
            answer = await client.add_feedback(collection, query, judged, filter=conditions, comment=comment)
    else:
        if conditions is not None:
            raise invalid("--filter", "is of searches")
        moment = None if as_of is None else read_moment("--as-of", as_of)
        async with options.memory() as memory:
            items = [{**await _item(memory, item), "relevance": relevance} for item, relevance in grades]
            answer = await memory.add_feedback(query, items, as_of=moment, comment=comment, **whose)
    if options.as_json:
        show_json(answer)
    else:
        out.print(f"{answer.status}: {answer.id}, {answer.judged} judged")


@feedback.command(name="list")
@_collection
@_user
@_session
@_agent
@_everything
@click.option("--cursor", help="The next page, as the last one named it.")
@click.option("--limit", "-n", default=100, show_default=True, help="How many to show.")
@json_option
@click.pass_obj
@command
async def list_feedback(
    options: Options,
    *,
    collection: str | None,
    user_id: str | None,
    session_id: str | None,
    agent_id: str | None,
    everything: bool,
    cursor: str | None,
    limit: int,
) -> None:
    """List judged queries, in the order in which they were judged first."""
    whose = {"user_id": user_id, "session_id": session_id, "agent_id": agent_id, "everything": everything}
    _check_kind(collection, whose)
    table = Table("id", "judged", "query", "right", "wrong", "comment")
    if collection is not None:
        async with options.retrieval() as client:
            page: Any = await client.feedback(collection, cursor=cursor, limit=limit)
    else:
        async with options.memory() as client:
            page = await client.feedback(**whose, cursor=cursor, limit=limit)
    if options.as_json:
        show_json(page)
        return
    for each in page.items:
        right, wrong = (
            ", ".join(_named(one) for one in each.judgments if bool(one.relevance) is wanted)
            for wanted in (True, False)
        )
        cells = (each.query, right, wrong, each.comment or "")
        table.add_row(escape(each.id), f"{each.judged_at:%Y-%m-%d %H:%M}", *map(escape, cells))
    out.print(table)
    if page.next_cursor:
        out.print(f"There are more: --cursor {escape(page.next_cursor)}")


@feedback.command()
@click.argument("feedback_id", metavar="ID")
@click.option("--recall", "is_recall", is_flag=True, help="It is of a recall; else of a search.")
@json_option
@click.pass_obj
@command
async def delete(options: Options, feedback_id: str, *, is_recall: bool) -> None:
    """Delete a judged query with all of its judgments, by the ID that `list` shows."""
    report: Any
    if is_recall:
        async with options.memory() as client:
            report = await client.erase_feedback(feedback_id)
    else:
        async with options.retrieval() as client:
            report = await client.delete_feedback(feedback_id)
    if options.as_json:
        show_json(report)
    else:
        out.print(f"deleted: {escape(feedback_id)}")


@feedback.command()
@_collection
@_user
@_session
@_agent
@_everything
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder; made if missing.",
)
@click.option("--judged-only", is_flag=True, help="Of a collection only the judged documents, and not all of them.")
@json_option
@click.pass_obj
@command
async def export(
    options: Options,
    *,
    collection: str | None,
    user_id: str | None,
    session_id: str | None,
    agent_id: str | None,
    everything: bool,
    output: Path,
    judged_only: bool,
) -> None:
    """Write an evaluation set for `diptych eval`.

    Of searches corpus.jsonl, queries.jsonl and qrels.tsv; of recalls turns.jsonl and questions.jsonl. Queries that nothing
    was judged to answer are left out.
    """
    whose = {"user_id": user_id, "session_id": session_id, "agent_id": agent_id, "everything": everything}
    _check_kind(collection, whose)
    if judged_only and collection is None:
        raise invalid("--judged-only", "is of searches: of a recall's memory all turns belong to the set")
    with Progress(*_COLUMNS, console=err, disable=options.as_json) as progress:
        task = progress.add_task("Reading", total=None)

        def advance() -> None:
            progress.advance(task)

        if collection is not None:
            async with options.retrieval() as client:
                counts = await write_search_set(client, collection, output, judged_only=judged_only, progress=advance)
        else:
            async with options.memory() as memory:
                counts = await write_recall_set(memory, whose, output, progress=advance)
    if options.as_json:
        show_json({"path": str(output), **counts})
        return
    left_out = counts.pop("left_out")
    out.print(f"{escape(str(output))}: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    if left_out:
        err.print(f"[yellow]{left_out} left out:[/] nothing was judged to answer them")


def _check_kind(collection: str | None, whose: dict[str, Any]) -> None:
    """Either searches or recalls. Raises InvalidFields, which exits as wrong usage does."""
    is_recall = any(whose.values())
    if (collection is not None) == is_recall:
        raise invalid("--collection", "give it for searches, or else --user, --session or --agent for recalls")


def _graded(text: str) -> tuple[str, int]:
    item, _, grade = text.rpartition("=")
    if not item or grade not in {str(number) for number in range(RELEVANCE_MAX + 1)}:
        raise invalid("--grade", f"{text!r} is not ITEM=N, with N from 0 to {RELEVANCE_MAX}")
    return item, int(grade)


async def _item(client: MemoryClient, text: str) -> dict[str, str]:
    """A turn by its number in its session, or a fact."""
    if match := _TURN.fullmatch(text):
        session_id, seq = match[1], int(match[2])
        turns = (await client.turns(session_id, after=seq - 1, before=seq + 1)).items
        if not turns:
            raise invalid(text, f"session {session_id!r} has no turn {seq}")
        return {"kind": "turn", "session_id": session_id, "id": turns[0].id}
    if text.startswith(_FACT):
        return {"kind": "fact", "id": text.removeprefix(_FACT)}
    raise invalid(text, "name a turn as SESSION#NUMBER, or a fact as fact:ID")


def _named(judged: JudgedDocument | JudgedItem) -> str:
    """As `add` takes it, with its grade where that says more than right or wrong."""
    if isinstance(judged, JudgedDocument):
        name = judged.document_id
    else:
        name = f"{_FACT}{judged.id}" if judged.kind == "fact" else f"{judged.session_id}#{judged.seq}"
    return f"{name}={judged.relevance}" if judged.relevance > 1 else name

"""A conversation in, what matters of it out."""

import sys
from typing import Any

import click
from rich.markup import escape

from diptych.console import Options, command, err, json_option, out, show_json
from shared.memory_messages import RecallKind


@click.command()
@click.argument("session")
@click.argument("text")
@click.option(
    "--role",
    type=click.Choice(["user", "assistant", "system", "tool"]),
    default="user",
    show_default=True,
    help="Who speaks.",
)
@click.option("--user", "user_id", help="Whose session it is.")
@click.option("--name", help="Who spoke, where the role does not say it.")
@click.option("--id", "turn_id", help="Repeating a call with the same id stores nothing twice.")
@json_option
@click.pass_obj
@command
async def remember(
    options: Options, session: str, text: str, role: Any, user_id: str | None, name: str | None, turn_id: str | None
) -> None:
    """Append a turn to SESSION. `-` as TEXT reads standard input."""
    content = sys.stdin.read() if text == "-" else text
    turn = {"id": turn_id, "role": role, "content": content, "name": name}
    async with options.memory() as client:
        answer = await client.append(session, [turn], user_id=user_id)
    if options.as_json:
        show_json(answer)
        return
    appended = answer.turns[0]
    out.print(f"{appended.status}: turn {appended.seq} of {escape(session)}, tail {answer.tail_tokens} tokens")


@click.command()
@click.argument("query", required=False)
@click.option("--user", "user_id", help="Search what this user's sessions hold.")
@click.option("--session", "session_id", help="Search this session.")
@click.option("--agent", "agent_id", help="Search what this agent's sessions hold.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["turn", "span"]),
    multiple=True,
    default=["turn"],
    show_default=True,
    help="What to find; may be given several times.",
)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="By meaning (dense), by words (lexical), or both.",
)
@click.option("--limit", "-n", default=5, show_default=True, help="How many to show.")
@click.option("--neighbours", default=0, show_default=True, help="Turns to show around each hit.")
@json_option
@click.pass_obj
@command
async def recall(
    options: Options,
    query: str | None,
    user_id: str | None,
    session_id: str | None,
    agent_id: str | None,
    kinds: tuple[RecallKind, ...],
    mode: Any,
    limit: int,
    neighbours: int,
) -> None:
    """Find the turns that QUERY is about; without it, the newest."""
    async with options.memory() as client:
        answer = await client.recall(
            query,
            user_id=user_id,
            session_id=session_id,
            agent_id=agent_id,
            kinds=kinds,
            mode=mode,
            limit=limit,
            neighbours=neighbours,
        )
    if options.as_json:
        show_json(answer)
        return
    if answer.degraded:
        err.print("[yellow]retrieval is away: only words were compared[/]")
    for item in answer.items:
        place = f"{item.session_id}#{item.seq or f'{item.first_seq}-{item.last_seq}'}"
        out.print(f"[green]{item.score:.3f}[/] [dim]{item.created_at:%Y-%m-%d %H:%M} {escape(place)}[/]")
        for turn in item.before or []:
            out.print(f"        [dim]{escape(turn.name or turn.role)}: {escape(turn.content)}[/]")
        out.print(f"      [bold]{escape(item.name or item.role or item.kind)}[/]: {escape(item.text)}")
        for turn in item.after or []:
            out.print(f"        [dim]{escape(turn.name or turn.role)}: {escape(turn.content)}[/]")
    if not answer.items:
        out.print("Nothing recalled.")


@click.command()
@click.argument("query", required=False)
@click.option("--session", "session_id", help="The conversation that goes on.")
@click.option("--user", "user_id", help="Recall from all of this user's sessions.")
@click.option("--collection", "-c", "collections", multiple=True, help="Add documents from here; repeat for several.")
@click.option("--max-tokens", default=2000, show_default=True, help="The budget; the context never costs more.")
@json_option
@click.pass_obj
@command
async def context(
    options: Options,
    query: str | None,
    session_id: str | None,
    user_id: str | None,
    collections: tuple[str, ...],
    max_tokens: int,
) -> None:
    """Assemble what an agent should know now, within a token budget."""
    async with options.memory() as client:
        answer = await client.context(
            query,
            session_id=session_id,
            user_id=user_id,
            collections=list(collections) or None,
            max_tokens=max_tokens,
        )
    if options.as_json:
        show_json(answer)
        return
    click.echo(answer.text)
    omitted = ", ".join(f"{count} {kind}" for kind, count in answer.omitted.items()) or "nothing"
    err.print(f"[dim]{answer.tokens} of {max_tokens} tokens, {len(answer.parts)} parts, omitted: {omitted}[/]")
    if answer.degraded:
        err.print("[yellow]retrieval is away: the context has no documents or compared only words[/]")

"""Passages out."""

from typing import Any

import click
import msgspec
from rich.markup import escape

from diptych.console import Options, command, json_option, out, show_json
from shared.retrieval_messages import Hit, Mmr, Rerank


def _conditions(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """The server knows what a filter may say; here it only has to be an object."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"must be one JSON object: {error}") from error


filter_option = click.option(
    "--filter",
    "conditions",
    callback=_conditions,
    metavar="JSON",
    help='Only documents whose metadata matches, as in \'{"team": "platform", "year": {"$gte": 2024}}\'.',
)


@click.command()
@click.argument("query")
@click.option("--collection", "-c", "collections", multiple=True, help="Repeat for several; all when left out.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="By meaning (dense), by words (lexical), or both.",
)
@click.option("--limit", "-n", default=5, show_default=True, help="How many to show.")
@filter_option
@click.option("--rerank", is_flag=True, help="Let the server's cross-encoder decide the order. Slow and sharp.")
@click.option("--rerank-model", metavar="MODEL", help="Rerank with this one of the server's cross-encoders.")
@click.option("--no-duplicates", is_flag=True, help="Of passages that say nearly the same, show only the best.")
@click.option("--diversity", type=float, help="From 0, the best first, to 1, each unlike those before it.")
@click.option("--group-by-document", is_flag=True, help="Show only the best passage of each document.")
@click.option("--max-tokens", type=int, help="Show whole passages, widened and merged, of so many tokens together.")
@click.option("--explain", is_flag=True, help="Show how the search was done and what each stage took.")
@json_option
@click.pass_obj
@command
async def search(
    options: Options,
    query: str,
    *,
    collections: tuple[str, ...],
    mode: Any,
    limit: int,
    conditions: dict[str, Any] | None,
    rerank: bool,
    rerank_model: str | None,
    no_duplicates: bool,
    diversity: float | None,
    group_by_document: bool,
    max_tokens: int | None,
    explain: bool,
) -> None:
    """Find the passages that answer QUERY."""
    async with options.retrieval() as client:
        answer = await client.search(
            query,
            collections=list(collections) or None,
            mode=mode,
            limit=limit,
            filter=conditions,
            rerank=_reranking(rerank_model, limit) if rerank or rerank_model else False,
            suppress_duplicates=no_duplicates,
            mmr=False if diversity is None else Mmr(diversity=diversity),
            group_by_document=group_by_document,
            max_tokens=max_tokens,
            explain=explain,
        )
    if options.as_json:
        show_json(answer)
        return
    for rank, hit in enumerate(answer.hits, start=1):
        print_hit(rank, hit, is_whole=max_tokens is not None)
    if not answer.hits:
        out.print("No passages found.")
    if answer.plan:
        out.print(f"[dim]{answer.plan.mode}, {answer.took_ms} ms: {answer.plan.stages_ms}[/dim]")


def _reranking(model: str | None, limit: int) -> Rerank:
    """As deep as by default, and deep enough for all that is to be shown."""
    return Rerank(model=model, depth=max(limit, Rerank().depth))


def print_hit(rank: int, hit: Hit, *, is_whole: bool = False) -> None:
    """A passage with its source and what each leg said of it; its beginning, or all of it as it is."""
    legs = [
        f"{name} {score:.3f} (rank {place})"
        for name, score, place in (
            ("dense", hit.scores.dense, hit.scores.dense_rank),
            ("lexical", hit.scores.lexical, hit.scores.lexical_rank),
        )
        if score is not None
    ]
    if hit.duplicates:
        legs.append(f"{len(hit.duplicates)} more say nearly the same")
    place = " > ".join(dict.fromkeys(part for part in (hit.title, *hit.headings) if part))
    out.print(
        f"[bold]{rank}. {escape(place or hit.document_id)}[/]  [green]{hit.score:.3f}[/]  [dim]{', '.join(legs)}[/]"
    )
    out.print(f"   [cyan]{escape(f'{hit.collection}/{hit.document_id}')}[/] characters {hit.start}-{hit.end}")
    if is_whole:
        text = "\n".join(part for part in (hit.context, hit.text) if part)
        out.print(f"{escape(text)}\n")
    else:
        out.print(f"   {escape(_excerpt(hit.text))}\n")


def _excerpt(text: str, length: int = 240) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"

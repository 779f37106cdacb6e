"""The main job, start to end, on real documents: what `make demo` runs."""

import tempfile
from pathlib import Path

import click
from rich.markup import escape
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from diptych.commands.documents import ingest_files
from diptych.commands.search import print_hit
from diptych.console import Options, command, err, out
from diptych.files import select_files
from diptych.memory_client import MemoryClient
from diptych.ports import free_ports
from diptych.supervisor import Supervisor
from shared.errors import SettingsError
from shared.retrieval_client import RetrievalClient

_COLLECTION = "demo"
_SESSION = "demo-session"
_USER = "ada"
_READY_TIMEOUT_S = 180.0

_QUESTIONS = (
    "What happens to an acknowledged write when the machine crashes?",
    "How do I make an API key and revoke it?",
    "Which port does the memory service listen on?",
)
_CONVERSATION = (
    ("user", "Hi, I am Ada. I run the search platform at our company."),
    ("assistant", "Nice to meet you, Ada. What are you working on?"),
    ("user", "We deploy on Fridays at 14:00 UTC, and last week retry_limit=3 was too low for the import job."),
    ("assistant", "Noted: Friday 14:00 UTC deployments, and the import job needs a higher retry_limit."),
    ("user", "Also, please always answer me in metric units."),
)


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--question", "-q", "questions", multiple=True, help="Ask this instead; repeat for several.")
@click.pass_obj
@command
async def demo(_options: Options, paths: tuple[str, ...], questions: tuple[str, ...]) -> None:
    """Start both services in a scratch folder, ingest documents, ask, remember, recall, and assemble a context.

    Without PATH: the documentation in the folder where you are.
    """
    try:
        files = select_files(paths or _own_documentation()).files
    except FileNotFoundError as error:
        raise SettingsError(f"there is no file or folder {error}") from error
    if not files:
        raise SettingsError("there is nothing to ingest here; name a folder of Markdown, HTML or text files")
    retrieval_port, memory_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="diptych-demo-") as scratch:
        environment = {
            "DIPTYCH_DATA_DIR": scratch,
            "DIPTYCH_KEYS_PATH": str(Path(scratch) / "keys.db"),
            "DIPTYCH_LOG_LEVEL": "warning",
        }
        async with Supervisor(
            host="127.0.0.1", retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
        ) as pair:
            with err.status("Starting both services and loading the model"):
                await pair.wait_ready(_READY_TIMEOUT_S)
            async with RetrievalClient(pair.retrieval_url) as retrieval, MemoryClient(pair.memory_url) as memory:
                out.print(Rule("1. Documents in"))
                await ingest_files(retrieval, _COLLECTION, files, quiet=False)
                made = await retrieval.collection(_COLLECTION)
                out.print(f"{made.documents} documents, {made.chunks} chunks, searchable now\n")
                await _ask(retrieval, questions or _QUESTIONS)
                await _converse(memory)
                await _assemble(memory, (questions or _QUESTIONS)[0])
    out.print(Rule("Done"))
    out.print("`make serve` starts the pair and keeps your data; the README shows what to do next.")


def _own_documentation() -> tuple[str, ...]:
    return tuple(name for name in ("README.md", "docs") if Path(name).exists())


async def _ask(retrieval: RetrievalClient, questions: tuple[str, ...]) -> None:
    for question in questions:
        out.print(Rule(f"2. Search: {escape(question)}"))
        answer = await retrieval.search(question, collection=_COLLECTION, limit=2)
        for rank, hit in enumerate(answer.hits, start=1):
            print_hit(rank, hit)
        out.print(f"[dim]{answer.took_ms} ms[/]")


async def _converse(memory: MemoryClient) -> None:
    out.print(Rule("3. A conversation is remembered, and recalled"))
    turns = [{"id": f"turn-{index}", "role": role, "content": text} for index, (role, text) in enumerate(_CONVERSATION)]
    await memory.append(_SESSION, turns, user_id=_USER)
    for question in ("When do we deploy?", "What was wrong with retry_limit?"):
        recalled = await memory.recall(question, user_id=_USER, limit=1)
        for item in recalled.items:
            out.print(
                f"[bold]{question}[/]\n   {item.role}: {escape(item.text)}  [dim]({item.session_id}#{item.seq}, score {item.score:.3f})[/]"
            )


async def _assemble(memory: MemoryClient, question: str) -> None:
    out.print(Rule("4. One call assembles the context from both services"))
    answer = await memory.context(
        question, session_id=_SESSION, user_id=_USER, collections=[_COLLECTION], max_tokens=700
    )
    out.print(
        Panel(Text(answer.text), title=f"context: {answer.tokens} of 700 tokens, {len(answer.parts)} parts"),
        markup=False,
    )

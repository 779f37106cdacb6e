"""The command `diptych`. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 3 a service cannot be reached,
4 an evaluation is worse than its baseline."""

from pathlib import Path

import click

from diptych import __version__
from diptych.commands.admin import check, info, rebuild
from diptych.commands.backup import restore, snapshot
from diptych.commands.demo import demo
from diptych.commands.documents import delete, ingest
from diptych.commands.evaluations import evaluate
from diptych.commands.facts import facts
from diptych.commands.feedback import feedback
from diptych.commands.forgetting import audit, forget
from diptych.commands.jobs import jobs
from diptych.commands.keys import keys
from diptych.commands.mcp import mcp
from diptych.commands.memories import context, recall, remember
from diptych.commands.models import flip, reindex
from diptych.commands.retention import retention
from diptych.commands.search import search
from diptych.commands.services import memory, retrieval, up
from diptych.commands.transfer import export_memory, import_memory
from diptych.console import Options
from diptych.memory_client import URL_DEFAULT as MEMORY_URL
from shared.retrieval_client import URL_DEFAULT as RETRIEVAL_URL


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="diptych")
@click.option(
    "--retrieval-url",
    envvar="DIPTYCH_RETRIEVAL_URL",
    default=RETRIEVAL_URL,
    show_default=True,
    help="Where retrieval is.",
)
@click.option(
    "--memory-url", envvar="DIPTYCH_MEMORY_URL", default=MEMORY_URL, show_default=True, help="Where memory is."
)
@click.option(
    "--api-key", envvar="DIPTYCH_API_KEY", help="The key sent with every request; none is needed while none exist."
)
@click.option(
    "--data-dir",
    envvar="DIPTYCH_DATA_DIR",
    default=Path("~/.diptych"),
    type=click.Path(path_type=Path, file_okay=False),
    show_default=True,
    help="Where services started here keep their data, and `keys` its keys.",
)
@click.option(
    "--keys-path",
    envvar="DIPTYCH_KEYS_PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of API keys; by default keys.db in the data directory.",
)
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Seconds that one call may take.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text for people.")
@click.pass_context
def main(
    context: click.Context,
    retrieval_url: str,
    memory_url: str,
    api_key: str | None,
    data_dir: Path,
    keys_path: Path | None,
    timeout_s: float,
    as_json: bool,  # noqa: FBT001 - click passes flags by name
) -> None:
    """Context for AI agents: hybrid retrieval and lossless memory."""
    context.obj = Options(retrieval_url, memory_url, api_key, data_dir.expanduser(), keys_path, as_json, timeout_s)


for command in (
    up,
    retrieval,
    memory,
    ingest,
    search,
    delete,
    remember,
    recall,
    context,
    export_memory,
    import_memory,
    forget,
    audit,
    retention,
    facts,
    feedback,
    jobs,
    keys,
    check,
    rebuild,
    reindex,
    flip,
    info,
    snapshot,
    restore,
    demo,
    evaluate,
    mcp,
):
    main.add_command(command)

"""What docs/MCP.md shows, as it stands there: configurations are read by an independent reader and what they name is started;
programs are run. Only addresses are replaced, and the data directory of what is started is a scratch one."""

import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.harness import make_key
from tests.outside.programs import INSTALLED, ROOT, Check, Failed, succeed
from tests.outside.servers import inspect

_PAGE: Final = ROOT / "docs/MCP.md"
_FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RETRIEVAL: Final = "http://127.0.0.1:7801"
_MEMORY: Final = "http://127.0.0.1:7802"
# Each with a file name from which a reader knows the client's format.
_CONFIGURATIONS: Final = {
    "Claude Code": ".mcp.json",
    "Claude Desktop": "claude_desktop_config.json",
    "Cursor": ".cursor/mcp.json",
    "VS Code": ".vscode/mcp.json",
}


def snippet_checks(scratch: Path, retrieval_url: str, memory_url: str, keys_dir: Path) -> list[Check]:
    """The last of them makes a key in `keys_dir`, after which nothing is answered without one."""

    def here(text: str) -> str:
        return text.replace(_RETRIEVAL, retrieval_url).replace(_MEMORY, memory_url)

    variables = {
        "DIPTYCH_RETRIEVAL_URL": retrieval_url,
        "DIPTYCH_MEMORY_URL": memory_url,
        "DIPTYCH_DATA_DIR": str(scratch / "embedded"),
    }
    configurations = [
        Check(
            f"the configuration for {title}",
            partial(_configured, scratch / title, file, here(_block(title, "json")), variables),
        )
        for title, file in _CONFIGURATIONS.items()
    ]
    return [
        *configurations,
        Check(
            "the program for the OpenAI Agents SDK",
            partial(_programmed, INSTALLED / "v2/bin/python", here(_block("OpenAI Agents SDK", "python"))),
        ),
        Check(
            "the program for LangChain",
            partial(_programmed, INSTALLED / "v1/bin/python", here(_block("LangChain", "python"))),
        ),
        Check("the command for curl", partial(_curled, here(_block("curl", "sh")))),
        Check("the configuration with a key", partial(_configured_with_key, scratch, keys_dir, variables)),
    ]


def _block(title: str, language: str) -> str:
    """The last block of that language in the section."""
    page = _PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", page, re.MULTILINE | re.DOTALL)
    if found is None:
        raise Failed(f"{_PAGE.name} has no section {title}")
    blocks = [text for name, text in _FENCE.findall(found[2]) if name == language]
    return str(blocks[-1])


async def _configured(folder: Path, name: str, text: str, variables: dict[str, str]) -> str:
    file = folder / name
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    configured: dict[str, dict[str, Any]] = next(iter(json.loads(text).values()))
    probe = INSTALLED / "v2/bin/amagi-mcp-probe"
    for key, value in variables.items():
        # What a service is started with comes from the client's own environment there.
        for server in configured.values():
            if "command" in server:
                server["env"] = {key: value} | server.get("env", {})
    file.write_text(json.dumps({next(iter(json.loads(text))): configured}), encoding="utf-8")
    await succeed(probe, "--config", file, "--no-call", "--startup-timeout", "120", "--timeout", "120", **variables)
    return f"{len(configured)} servers started or reached: {', '.join(configured)}"


async def _configured_with_key(scratch: Path, keys_dir: Path, variables: dict[str, str]) -> str:
    key = await make_key(keys_dir, "acme")
    text = _block("Keys and users", "json").replace("dpt_...", key)
    return await _configured(scratch / "key", "claude_desktop_config.json", text, variables)


async def _programmed(python: Path, text: str) -> str:
    ended = await succeed(python, "-c", text)
    for tool in ("search_documents", "get_context"):
        if tool not in ended.out:
            raise Failed(f"{tool} is not in what it printed: {ended.out}")
    return "listed both services' tools and called one"


async def _curled(text: str) -> str:
    ended = await succeed(*shlex.split(text.replace("\\\n", " ")))
    answer = json.loads(ended.out)
    if answer["result"].get("isError"):
        raise Failed(ended.out)
    return "answered"


async def stdio_listed(retrieval_url: str, memory_url: str) -> str:
    command = ["diptych", "--retrieval-url", retrieval_url, "--memory-url", memory_url, "mcp", "both"]
    counts = []
    for era in ("modern", "legacy"):
        target = ["--transport", "stdio", "--protocol-era", era, *command]
        answer = await inspect(target, "tools/list", "--strict")
        counts.append(len(answer["tools"]))
    return f"{counts[0]} tools in both eras"

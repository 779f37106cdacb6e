"""The documentation says what the code does: nothing is missing in it, and nothing in it does not exist."""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from diptych.cli import main
from memory.handlers import ROUTES as MEMORY_ROUTES
from memory.settings import MemorySettings
from retrieval.handlers import ROUTES as RETRIEVAL_ROUTES
from retrieval.settings import RetrievalSettings
from shared.errors import SERVICE_ERRORS, InvalidFields
from shared.memory_stream import NDJSON, MemoryStreamReader
from shared.messages import Problem
from shared.openapi import describe_api, error_codes
from shared.routes import Route
from shared.settings import ENV_PREFIX, ServiceSettings
from shared.wire import JSON, decode, encode
from tests.harness import RunningMemory, RunningRetrieval, raw_session

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROTOCOL = (ROOT / "docs/PROTOCOL.md").read_text()
OPERATIONS = (ROOT / "docs/OPERATIONS.md").read_text()

ROUTES: tuple[Route, ...] = (*RETRIEVAL_ROUTES, *MEMORY_ROUTES)
# Made by the server itself, so they stand in no table of routes.
UNVERSIONED = {
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /.well-known/oauth-protected-resource",
    "POST /mcp",
    "POST /mcp/openai",
}
KINDS: tuple[type[ServiceSettings], ...] = (RetrievalSettings, MemorySettings)
# Names that stand for any setting.
PLACEHOLDERS = {"DIPTYCH_X", "DIPTYCH_RETRIEVAL_X", "DIPTYCH_MEMORY_X"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED_ROUTE = re.compile(r"`((?:GET|HEAD|POST|PUT|PATCH|DELETE) /[^`\s]*)`")
_EXAMPLE = re.compile(
    r"^```http\n(\w+) (\S+)\n((?:(?!```).)*)```\n\n`(\d+)`\n\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
# Records, a line each.
_STREAM = re.compile(r"^```http\n(\w+) (\S+)\n```\n\n`200`\n\n```ndjson\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STREAMS: list[tuple[str, str, str]] = _STREAM.findall(PROTOCOL)
EXAMPLES: list[tuple[str, str, str, str, str]] = _EXAMPLE.findall(PROTOCOL)


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


KNOWN_ROUTES = {_name(route) for route in ROUTES} | UNVERSIONED


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _commands(below, f"{path} {name}")


COMMANDS = dict(_commands(main, "diptych"))


def known_variables() -> set[str]:
    """Every environment variable that a service or the command line reads."""
    settings = {
        prefix + name.upper()
        for kind in KINDS
        for prefix in (ENV_PREFIX, f"{ENV_PREFIX}{kind.service.upper()}_")
        for name in kind.model_fields
    }
    return settings | {str(option.envvar) for each in COMMANDS.values() for option in _options(each) if option.envvar}


class TestRoutes:
    @pytest.mark.parametrize("name", sorted(KNOWN_ROUTES))
    def test_a_route_has_a_section_of_its_own(self, name: str) -> None:
        assert f"`{name}`" in _titles(PROTOCOL), f"docs/PROTOCOL.md needs a heading `{name}`"

    @pytest.mark.parametrize("route", ROUTES, ids=_name)
    def test_its_section_names_its_scope_its_statuses_and_every_field_that_it_takes(self, route: Route) -> None:
        section = _section(PROTOCOL, f"`{_name(route)}`")
        fields = [name for kind in (route.body, route.query) if kind for name in kind.__struct_fields__]
        scopes = [route.scope] if route.scope else []
        wanted = [*fields, *scopes, *(str(status) for status in route.answers)]
        assert [name for name in wanted if f"`{name}`" not in section] == []

    def test_every_field_of_every_message_is_named(self) -> None:
        schemas = describe_api(title="", version="", routes=ROUTES)["components"]["schemas"]
        fields = {name for schema in schemas.values() for name in schema.get("properties", {})}
        assert len(fields) > 50
        assert [name for name in sorted(fields) if f"`{name}`" not in PROTOCOL] == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_a_page_names_no_route_that_does_not_exist(self, page: Path) -> None:
        text = page.read_text()
        assert set(_NAMED_ROUTE.findall(text)) <= KNOWN_ROUTES
        # A path may stand alone, and with an example in the place of an id.
        for path in re.findall(r"`(/v1/[^`\s]*)`", text):
            assert any(_matches(route, path) for route in ROUTES), f"{page.name} names {path}"

    def test_every_error_code_is_listed_with_its_status_and_no_other(self) -> None:
        listed = {row[0].strip("`"): row[1] for row in _rows(_section(PROTOCOL, "Errors")) if row[1].isdecimal()}
        assert sorted(listed) == sorted(error_codes())
        assert listed == {error.code: str(error.status) for error in SERVICE_ERRORS}


class TestExamples:
    def test_nearly_every_route_has_one(self) -> None:
        shown = {_name(route) for method, target, *_ in (*EXAMPLES, *STREAMS) for route in _routes_of(method, target)}
        forms = {_name(route) for route in ROUTES if route.is_form}  # shown as a command: their bytes cannot be read
        assert {_name(route) for route in ROUTES} - shown - forms <= {"GET /v1/sessions/{session}"}  # as PUT answers it

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example[0]} {example[1]}")
    def test_it_is_a_request_that_the_route_takes_and_an_answer_that_it_gives(
        self, example: tuple[str, str, str, str, str]
    ) -> None:
        method, target, body, status, answer = example
        routes = _routes_of(method, target)
        assert routes, f"there is no route for {method} {target}"
        assert any(_fits(route, body, int(status), answer) for route in routes)

    @pytest.mark.parametrize("example", STREAMS, ids=lambda example: f"{example[0]} {example[1]}")
    def test_a_stream_is_one_that_the_route_gives(self, example: tuple[str, str, str]) -> None:
        method, target, records = example
        reader = MemoryStreamReader(NDJSON)
        assert [route for route in _routes_of(method, target) if route.gives_records]
        assert len(reader.feed(records.encode())) > 2
        reader.close()


class TestSettings:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.service)
    def test_each_stands_in_a_table_as_it_stands_in_the_code(self, kind: type[ServiceSettings]) -> None:
        lines = OPERATIONS.splitlines()
        for name, field in kind.model_fields.items():
            is_common = name in ServiceSettings.model_fields and name != "port"
            variable = (ENV_PREFIX if is_common else f"{ENV_PREFIX}{kind.service.upper()}_") + name.upper()
            default = "" if field.default is None else f"`{field.default}`"
            row = f"| `--{name.replace('_', '-')}` | `{variable}` | {default} | {field.description} |"
            assert row in lines, f"docs/OPERATIONS.md should have this row:\n{row}"

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_a_page_names_no_variable_that_does_not_exist(self, page: Path) -> None:
        named = set(re.findall(r"\bDIPTYCH_[A-Z0-9_]+", page.read_text()))
        assert named - known_variables() - PLACEHOLDERS == set()


class TestCommandLine:
    @pytest.mark.parametrize("path", COMMANDS)
    def test_a_command_says_what_it_does_and_has_a_section_that_names_its_options(self, path: str) -> None:
        assert COMMANDS[path].help
        assert [option.name for option in _options(COMMANDS[path]) if not option.help] == []
        section = _section(OPERATIONS, f"`{path}`")
        options = {name for option in _options(COMMANDS[path]) for name in option.opts}
        if COMMANDS[path] is not main:
            options -= {
                name for option in _options(main) for name in option.opts
            }  # said once, in the section of `diptych`
        assert [name for name in options if f"`{name}`" not in section] == []

    @pytest.mark.parametrize("path", COMMANDS)
    def test_a_section_names_no_option_that_does_not_exist(self, path: str) -> None:
        known = {name for each in (main, COMMANDS[path]) for option in _options(each) for name in option.opts}
        named = set(re.findall(r"`(--?[a-z][a-z-]*)`", _section(OPERATIONS, f"`{path}`")))
        assert named <= known | {"--help", "-h"}

    def test_no_section_is_about_a_command_that_does_not_exist(self) -> None:
        titles = {title.strip("`") for title in _titles(OPERATIONS) if title.startswith("`diptych")}
        assert titles == set(COMMANDS)

    def test_its_own_variables_stand_beside_their_options(self) -> None:
        own = [option for option in _options(main) if option.envvar]
        assert own
        for option in own:
            assert f"| `{option.envvar}` | `{option.opts[0]}` |" in OPERATIONS


class TestMetrics:
    async def test_every_metric_is_listed_with_its_type_and_no_other(
        self, retrieval: RunningRetrieval, memory: RunningMemory
    ) -> None:
        exposed: dict[str, str] = {}
        for url in (retrieval.url, memory.url):
            async with raw_session(url) as session, session.get("/metrics") as response:
                exposed |= dict(re.findall(r"^# TYPE (\w+) (\w+)$", await response.text(), re.MULTILINE))
        exposed = {name: kind for name, kind in exposed.items() if not name.endswith("_created")}
        rows = [row for row in _rows(_section(OPERATIONS, "Metrics")) if row[0].startswith("`")]
        assert {row[0].strip("`"): row[1] for row in rows} == exposed

        named = {name for page in (PROTOCOL, OPERATIONS) for name in re.findall(r"`(diptych_[a-z_]+)`", page)}
        assert named <= set(exposed)


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_relative_link_leads_somewhere(self, page: Path) -> None:
        prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            linked = (page.parent / name).resolve() if name else page
            assert linked.exists(), f"{page.name} links to {target}"
            if anchor:
                anchors = {_anchor(title) for title in _titles(linked.read_text())}
                assert anchor in anchors, f"{page.name} links to {target}"

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_blocks_of_python_and_json_can_be_read(self, page: Path) -> None:
        for language, block in _FENCE.findall(page.read_text()):
            if language == "python":
                ast.parse(textwrap.dedent(block))
            elif language == "json":
                json.loads(block)


def _options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def _headings(page: str) -> list[tuple[int, int, str]]:
    """Where each heading starts, its level, and its title. Comments inside blocks of code are none."""
    blank = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), page)
    found = enumerate(re.match(r"(#+) (.*)", line) for line in blank.split("\n"))
    return [(number, len(match[1]), match[2]) for number, match in found if match]


def _titles(page: str) -> set[str]:
    return {title for _, _, title in _headings(page)}


def _section(page: str, title: str) -> str:
    """From a heading to the next one of its level or above."""
    lines, headings = page.split("\n"), _headings(page)
    for index, (start, level, name) in enumerate(headings):
        if name == title:
            ends = (number for number, depth, _ in headings[index + 1 :] if depth <= level)
            return "\n".join(lines[start : next(ends, len(lines))])
    raise AssertionError(f"there is no heading {title}")


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _anchor(title: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _routes_of(method: str, target: str) -> list[Route]:
    """Two services may have the same route."""
    path = target.partition("?")[0]
    return [route for route in ROUTES if route.method == method and _matches(route, path)]


def _matches(route: Route, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path) is not None


def _fits(route: Route, body: str, status: int, answer: str) -> bool:
    if route.body and (body or not route.body_optional):
        try:
            decode(body.encode(), JSON, route.body)
        except InvalidFields:
            return False
    kind = Problem if status >= 400 else route.answers.get(status)
    if kind is None:
        return False
    # Answers tolerate what they do not know, so what came out again is compared with what went in.
    try:  # two services may answer the same request differently
        known = json.loads(encode(decode(answer.encode(), JSON, kind), JSON))
    except InvalidFields:
        return False
    return bool(_shape(known) == _shape(json.loads(answer)))


def _shape(value: Any) -> Any:
    match value:
        case dict():
            return {name: _shape(part) for name, part in value.items()}
        case list():
            return [_shape(part) for part in value]
        case _:
            return None

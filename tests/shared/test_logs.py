"""Logs say what happened, where and under which request, and never what a user wrote."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import clean_environment

pytestmark = pytest.mark.blocking

ROOT = Path(__file__).parent.parent.parent
# The text of a request is a local variable wherever a handler may fail.
SCRIPT = """
import sys, logging, structlog
from shared.logs import configure_logs
from shared.tracing import server_span
configure_logs(service="probe", level="info", style=sys.argv[1])
log = structlog.get_logger()

def handle(query, authorization):
    raise RuntimeError("no such index")

traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
with structlog.contextvars.bound_contextvars(request_id="r1"), server_span(None, "GET /", {"traceparent": traceparent}):
    query, authorization = "where did ada " + "hide it", "Bearer dpt_1_" + "secret"
    try:
        handle(query, authorization)
    except RuntimeError:
        log.exception("request_failed")
    log.debug("too_small_to_mention")
logging.getLogger("aiohttp").warning("from a library")
logging.getLogger("aiohttp").info("progress of a library")
print("result")
"""


def run(style: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, style],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=clean_environment(),
        timeout=30,
    )


@pytest.mark.parametrize("style", ["json", "console", "auto"])
def test_a_traceback_shows_code_and_no_values(style: str) -> None:
    done = run(style)

    assert "request_failed" in done.stderr
    assert "RuntimeError" in done.stderr
    assert "no such index" in done.stderr
    assert "hide it" not in done.stderr
    assert "secret" not in done.stderr


def test_an_event_in_json_is_one_line_with_its_ids() -> None:
    done = run("json")
    line, *rest = done.stderr.splitlines()
    event = json.loads(line)

    assert (event["event"], event["level"], event["service"]) == ("request_failed", "error", "probe")
    assert (event["request_id"], event["trace_id"]) == ("r1", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert event["exception"][0]["exc_type"] == "RuntimeError"
    assert [frame["name"] for frame in event["exception"][0]["frames"]] == ["<module>", "handle"]
    assert event["timestamp"].endswith("Z")
    assert rest == ["WARNING aiohttp: from a library"]


def test_standard_output_stays_the_program_s_own() -> None:
    assert run("json").stdout == "result\n"

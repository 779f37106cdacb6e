"""What checkers say of one running service: the inspector, mcpscore, amagi-mcp-probe, and the conformance suite."""

import json
from functools import partial
from typing import Any, Final

from tests.outside.programs import HERE, INSTALLED, Check, Failed, run, succeed

SCORE_MIN_PERCENT: Final = 95
_BIN: Final = INSTALLED / "v2/bin"
_MODERN: Final = "2026-07-28"
_LEGACY: Final = "2025-11-25"
# Those that need no tools of the suite's own; the transport itself passes the whole required sets with the fixture in tests/mcp.
_SCENARIOS: Final = {
    _MODERN: (
        "tools-list",
        "resources-list",
        "prompts-list",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "server-sse-multiple-streams",
        "input-required-result-unsupported-methods",
        "server-stateless",
    ),
    _LEGACY: (
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
        "server-sse-multiple-streams",
    ),
}
_WITH_BASELINE: Final = {"server-stateless"}


def checks_of(name: str, url: str, calls: dict[str, dict[str, Any]]) -> list[Check]:
    """`calls` has good arguments for each tool that there is."""
    inspections = [
        Check(f"inspector {era} {method} of {name}", partial(_inspected, url, era, method))
        for era in ("modern", "legacy")
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
    ]
    return [
        *inspections,
        Check(f"inspector calls every tool of {name}", partial(_called, url, calls)),
        Check(f"mcpscore of {name}", partial(_scored, url)),
        Check(f"amagi-mcp-probe of {name}", partial(_probed, url)),
        *(
            Check(f"conformance {revision} {scenario} of {name}", partial(_conforms, url, revision, scenario))
            for revision, scenarios in _SCENARIOS.items()
            for scenario in scenarios
        ),
    ]


async def inspect(target: list[str], method: str, *more: str) -> dict[str, Any]:
    """Raises Failed."""
    ended = await succeed("mcp-inspector", "--cli", *target, "--method", method, *more, "--format", "json")
    answer: dict[str, Any] = json.loads(ended.out)["result"]
    return answer


async def _inspected(url: str, era: str, method: str) -> str:
    strict = ["--strict"] if method == "tools/list" else []
    answer = await inspect([url, "--transport", "http", "--protocol-era", era], method, *strict)
    (listed,) = (value for value in answer.values() if isinstance(value, list))
    return f"{len(listed)} listed"


async def _called(url: str, calls: dict[str, dict[str, Any]]) -> str:
    target = [url, "--transport", "http", "--protocol-era", "modern"]
    names = [tool["name"] for tool in (await inspect(target, "tools/list"))["tools"]]
    if sorted(names) != sorted(calls):
        raise Failed(f"there are {sorted(names)}, and arguments for {sorted(calls)}")
    last_id = ""
    for name, arguments in calls.items():
        given = ["--tool-name", name, "--tool-args-json", json.dumps(arguments).replace("$id", last_id)]
        answer = await inspect(target, "tools/call", *given)
        if answer.get("isError") or "structuredContent" not in answer:
            raise Failed(f"{name}: {answer}")
        last_id = answer["structuredContent"].get("memory", {}).get("id", last_id)
    return f"{len(names)} tools called"


async def _scored(url: str) -> str:
    """With `--smoke` the tools that only read are called, too."""
    ended = await run(
        *(_BIN / "mcpscore", "--no-config", "--smoke", "--json", "--fail-under", str(SCORE_MIN_PERCENT), url)
    )
    report = json.loads(ended.out)
    missed = [each["rule_id"] for each in report["results"] if not each["passed"]]
    summary = f"{report['score']}/{report['max_score']}, without {', '.join(missed)}"
    if ended.code:
        raise Failed(f"{summary}\n{ended.err[-2000:]}")
    return summary


async def _probed(url: str) -> str:
    ended = await succeed(_BIN / "amagi-mcp-probe", "--url", url, "--strict")
    return ended.out.strip().splitlines()[-1]


async def _conforms(url: str, revision: str, scenario: str) -> str:
    results = INSTALLED / "results"
    baseline = ["--expected-failures", str(HERE / "conformance-baseline.yml")] if scenario in _WITH_BASELINE else []
    await succeed(
        *("conformance", "server", "--url", url, "--scenario", scenario, "--spec-version", revision, *baseline),
        *("-o", str(results)),
    )
    return "passed" if not baseline else "passed but for what needs a fixture"

"""An agent's day, made up from a seed: somebody asks, the agent plans and calls tools, tools answer at length, the agent answers.

Tool output is most of the text, as in real transcripts: listings, logs, stack traces, test runs, JSON, tables, source code
and diffs. `Transcript.planted` says what each turn holds that a summary may lose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from benchmarks.transcript_tools import (
    build,
    diff,
    failing_tests,
    http_answer,
    listing,
    log,
    log_of_commits,
    matches,
    passing_tests,
    plan_of_infrastructure,
    pods,
    source,
    table,
    trace,
)
from benchmarks.transcript_world import Planted, World
from memory.truth.records import Line
from shared.memory_messages import Role

_GAP_S_MAX: Final = 90


@dataclass(frozen=True, slots=True)
class Transcript:
    lines: list[Line]
    planted: list[Planted]


class _Day:
    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.lines: list[Line] = []
        self.planted: list[Planted] = []
        self._user = self.world.random.choice(self.world.people).split(" ")[0]

    def user(self, text: str) -> None:
        self._turn("user", self._user, text)

    def agent(self, text: str, *, call: str | None = None) -> None:
        """What it says, and the command that it runs, as agents write one: after a prompt or in a fence."""
        if call is not None:
            call = self.world.command(call)
            text += f"\n\n$ {call}" if self.world.maybe(0.5) else f"\n\n```bash\n{call}\n```"
        self._turn("assistant", "assistant", text)

    def tool(self, text: str) -> None:
        self._turn("tool", "shell", text)

    def _turn(self, role: Role, speaker: str, text: str) -> None:
        seq = len(self.lines) + 1
        world = self.world
        world.now += timedelta(seconds=world.random.randrange(2, _GAP_S_MAX))
        self.lines.append(Line(seq=seq, role=role, speaker=speaker, created_at=world.now, text=text))
        self.planted += [Planted(kind, planted, seq) for kind, planted in world.planted]
        world.planted.clear()


def make(seed: int, *, turns_min: int) -> Transcript:
    """The same transcript for the same seed, some turns longer than `turns_min`, ending with an answer."""
    day = _Day(seed)
    while len(day.lines) < turns_min:
        day.world.random.choice(_EPISODES)(day)
    return Transcript(day.lines, day.planted)


def _fix_a_test(day: _Day) -> None:
    w = day.world
    file, test = w.file(), w.test_file()
    day.user(
        f"{test} has been red since {w.day()}, {w.person()} thinks it is the change in {file}. Can you look? It blocks {w.ticket_id()}."
    )
    day.agent("I'll run that file alone first to see whether it fails in isolation.", call=f"{_runner(w)} {test}")
    day.tool(failing_tests(w, test))
    day.agent(f"It fails on its own, so it is not an ordering problem. Reading `{w.plant('path', file)}` around the assertion.",
              call=f"sed -n '{w.number(20, 90)},{w.number(120, 260)}p' {w.plant('path', file)}")  # fmt: skip
    day.tool(source(w, w.random.randrange(3, 7)))
    if w.maybe(0.6):
        day.agent(
            "The name is used elsewhere too; checking the callers before I touch it.",
            call=f"grep -rn {w.function()} {w.plant('path', file.rpartition('/')[0])}",
        )
        day.tool(matches(w, w.random.randrange(4, 14)))
    day.agent(
        f"The {w.noun()} is compared before it is normalized, which is why only the {w.noun()} case breaks. I'll move the check and keep the old behaviour for empty values."
    )
    day.tool(diff(w, file))
    day.agent("Applied. Running the whole folder now.", call=f"{_runner(w)} {w.plant('path', test.rpartition('/')[0])}")
    day.tool(passing_tests(w))
    day.agent(
        f"Fixed in {w.commit()}: `{w.plant('path', file)}` now normalizes before comparing. The suite is green again ({w.number()} passed in {w.measure()}). I left {w.ticket_id()} open because the {w.noun()} path has no test yet."
    )


def _handle_an_incident(day: _Day) -> None:
    w = day.world
    day.user(
        f"Alert from {w.url()}: p95 of {w.system} went from {w.measure()} to {w.measure()} about an hour ago, and {w.person()} sees {w.quote(w.random.choice(_MESSAGES))} in the client."
    )
    day.agent("Looking at the pods first.", call=f"kubectl get pods -n {w.system} -o wide")
    day.tool(pods(w, w.random.randrange(4, 9)))
    pod = w.pod()
    day.agent(
        f"One of them restarts. Pulling the log of {pod}.",
        call=f"kubectl logs {w.plant('id', pod)} -n {w.system} --since=1h",
    )
    day.tool(log(w, w.random.randrange(12, 40)))
    if w.maybe(0.7):
        day.agent(
            "There is a stack trace in it; getting it whole.",
            call=f"kubectl logs {w.plant('id', pod)} --previous --tail={w.number(100, 900)}",
        )
        day.tool(trace(w))
    if w.maybe(0.5):
        url = w.url()
        day.agent("Asking the endpoint directly.", call=f"curl -sS -H 'Accept: application/json' {url}")
        day.tool(http_answer(w))
    day.user("Is any data lost?")
    day.agent(
        f"No. The {w.noun()} queue kept everything; {w.number(100, 9000)} entries are waiting and drain at {w.measure()}. I would raise the memory limit from {w.measure()} to {w.measure()} and roll back to {w.version()}."
    )
    day.user(f"Do that, and write it down in {w.other_path()}. Tell {w.email()}.")
    day.agent(
        "Rolling back.", call=f"helm rollback {w.system} {w.number(10, 60)} --wait --timeout {w.number(60, 600)}s"
    )
    day.tool(f"Rollback was a success! Happy Helming!\nrevision {w.number(10, 90)} -> {w.number(10, 90)}\n")
    day.agent(
        f"Done at {w.stamp('%H:%M')} UTC. p95 is back to {w.measure()}, errors fell from {w.measure()} to {w.measure()}. The note is in {w.other_path()} and the follow-up is {w.ticket_id()}."
    )


def _ask_the_data(day: _Day) -> None:
    w = day.world
    noun = w.noun()
    day.user(
        f"How many {noun}s did we settle since {w.day()}, and what were the refunds worth? Finance says {w.money()}, {w.person()} does not believe it."
    )
    day.agent("I'll ask the replica so that nothing on the primary is slowed down.",
              call=f"psql {w.plant('url', f'postgres://ro@replica.{w.domain}:5432/{noun}s')} -c \"SELECT region, count(*), sum(amount) FROM {noun}s GROUP BY region\"")  # fmt: skip
    day.tool(table(w, w.random.randrange(6, 16)))
    if w.maybe(0.5):
        day.agent(
            "The last row looks odd. Checking the newest entries of that region.",
            call=f"psql -f {w.other_path()} -v since='{w.day()}'",
        )
        day.tool(table(w, w.random.randrange(8, 20)))
    day.agent(
        f"Finance is {w.measure()} off: they counted {w.number(20, 400)} {noun}s twice that were retried after {w.plant('error', 'UniqueViolation: duplicate key value violates unique constraint')}. The right sum is {w.money()}, over {w.number(1000, 9000)} {noun}s."
    )
    day.user(f"Good, put the query into {w.other_path()} and send the sum to {w.email()}.")
    day.agent(f"Saved and sent. The query takes {w.measure()} on the replica, so it can run daily.")


def _build_and_release(day: _Day) -> None:
    w = day.world
    version = w.version()
    day.user(f"Please cut {version} of {w.system} from {w.commit()} and deploy it to staging.")
    day.agent(
        "Building the image first.",
        call=f"docker build -t registry.{w.domain}/{w.system}:{w.plant('version', version)} --build-arg COMMIT={w.commit()} .",
    )
    day.tool(build(w))
    if w.maybe(0.5):
        day.agent(
            "The build is fine. Checking what goes out with it.",
            call=f"git log --oneline {w.plant('version', version)}..HEAD",
        )
        day.tool(log_of_commits(w, w.random.randrange(5, 15)))
    day.agent(
        "Planning the change of staging.",
        call=f"terraform -chdir=infra/staging plan -var image_tag={w.plant('version', version)} -out=plan.bin",
    )
    day.tool(plan_of_infrastructure(w))
    day.user(f"Looks right, go. {w.person()} wants the link of the run.")
    day.agent("Applying.", call="terraform -chdir=infra/staging apply plan.bin")
    day.tool(
        f'Apply complete! Resources: {w.number(10, 30)} added, {w.number(10, 40)} changed, 0 destroyed.\n\nOutputs:\nendpoint = "{w.url()}"\n'
    )
    day.agent(
        f"{w.plant('version', version)} is on staging; the run is {w.url()}. Smoke tests took {w.measure()}. Production is for {w.day()}, as {w.person()} asked."
    )


def _find_the_way(day: _Day) -> None:
    w = day.world
    day.user(f"I'm new here. Where does {w.system} {w.verb()} a {w.noun()}, and who decides about retries?")
    day.agent("Let me look around.", call=f"ls -la {w.plant('path', w.random.choice(w.files).rpartition('/')[0])}")
    day.tool(listing(w, w.random.randrange(6, 18)))
    function = w.function()
    day.agent("One of these looks central.", call=f"cat {w.file()}")
    day.tool(source(w, w.random.randrange(5, 12)))
    day.agent("And its callers.", call=f"rg -n '{function}' --type {w.language}")
    day.tool(matches(w, w.random.randrange(5, 16)))
    day.agent(
        f"It happens in `{w.file()}`: `{function}` takes the {w.noun()} and hands it to `{w.class_name()}`. Retries are decided in `{w.file()}`, at most {w.number(10, 30)} times with a pause of {w.measure()}. The reasoning is in {w.url()} and in {w.other_path()}."
    )
    day.user("Why not retry forever?")
    day.agent(
        f"Because of {w.ticket_id()}: on {w.day()} a poisoned {w.noun()} was retried {w.number(1000, 9000)} times and filled the disk. {w.person()} then set the limit. If you change it, change the alert in the same commit."
    )


def _talk_it_over(day: _Day) -> None:
    w = day.world
    day.user(
        f"Before I forget: {w.person()} is away until {w.day()}, so reviews go to {w.person()}. And I prefer small pull requests, one idea each."
    )
    day.agent("Noted. I'll keep changes apart and ask for reviews there.")
    day.user(
        f"What do you think of moving the {w.noun()} queue out of the database? It holds {w.measure()} and costs us {w.money()} a month."
    )
    day.agent(
        f"I would wait. The table is slow because of one missing index, not because it is a table: at {w.number(200, 900)} writes a second the database is at {w.measure()}. A broker means another thing to run, back up and page somebody for. If it passes {w.number(2000, 9000)} a second the answer changes."
    )
    day.user(
        f"Fair. {w.person()} said {w.quote('we should not add a system to save one query')}, which is the same. Let's write the index and look again on {w.day()}."
    )
    day.agent(f"I'll add it as {w.ticket_id()} and put the numbers into {w.other_path()} so that we can compare.")


def _read_an_api(day: _Day) -> None:
    w = day.world
    url = w.url()
    day.user(f"The partner's sandbox answers strangely, see {url}. Their contact is {w.email()}.")
    day.agent(
        "Asking it as our client would.",
        call=f"curl -s -X POST {w.plant('url', url)} -H 'X-Request-Id: {w.request()}' -d '{{\"limit\": {w.number(10, 90)}}}'",
    )
    day.tool(http_answer(w))
    if w.maybe(0.6):
        day.agent(
            "The second page differs. Comparing with what our log has.",
            call=f"tail -n {w.number(20, 200)} {w.other_path()}",
        )
        day.tool(log(w, w.random.randrange(10, 25)))
    day.agent(
        f"They send amounts as strings since {w.version()}, and our parser in `{w.file()}` drops the cents. {w.number(10, 300)} entries are affected, together {w.money()}. Shall I accept both?"
    )
    day.user("Yes, both, with a warning in the log.")
    day.agent("Writing it.", call=f"git switch -c fix/{w.ticket_id()}-{w.verb()}-{w.noun()}")
    day.tool(diff(w, w.file()))
    day.agent(f"Pushed as {w.url()}; the check took {w.measure()}. I asked {w.person()} for a review.")


def _runner(world: World) -> str:
    runners = {
        "python": "python -m pytest -q -x",
        "typescript": "npx vitest run",
        "go": "go test -run . -count=1",
        "rust": "cargo test -q --test",
    }
    return runners[world.language]


_MESSAGES: Final = (
    "upstream connect error or disconnect/reset before headers",
    "the request took too long and was cancelled",
    "your session has expired, please sign in again",
    "payment could not be confirmed",
)
_EPISODES: Final[tuple[Callable[[_Day], None], ...]] = (
    _fix_a_test,
    _handle_an_incident,
    _ask_the_data,
    _build_and_release,
    _find_the_way,
    _talk_it_over,
    _read_an_api,
)

"""What tools print in a made-up transcript: each function is one kind of output, with its identifiers planted."""

from typing import Final

from benchmarks.transcript_world import World

_LEVELS: Final = ("INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR")
_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_DOINGS: Final = (
    "starting to {verb} the next {noun} after the lock was released",
    "cache miss for {noun}, asking the store and keeping the answer",
    "no consumer took the {noun} in time, it goes back to the queue",
    "finished, nothing left to {verb} for now",
    "the {noun} is older than the last one seen, leaving it alone",
    "connection to the {noun} service is open again",
)
_STATEMENTS: Final = (
    "if not {noun}.is_active:\n        return None",
    "for {noun} in self._{noun}s.values():\n        self.{function}({noun})",
    'log.info("{verb} of {noun} finished", {noun}={noun}.name)',
    "{noun} = await self._store.{function}({noun}_key, default=None)",
    "with self._lock:\n        self._{noun}s[key] = {noun}",
    "try:\n        {noun} = self._{function}(raw)\n    except {cls} as problem:\n        raise BadInput(str(problem)) from problem",
    "assert {noun} is not None, 'the caller checked it'",
    "return [{verb}({noun}) for {noun} in batch if {noun}.state == 'open']",
    "# A {noun} may come twice; the second one wins because it is newer.",
    "self._metrics.{function}.inc()",
)


def source(world: World, functions: int) -> str:
    """Most of what agents read: code, with hardly anything in it that a reader would look up later."""
    lines = ["from __future__ import annotations", "", f"from {world.noun()}s import {world.class_name()}", ""]
    lines += [
        f"class {world.class_name()}:",
        f'    """Keeps each {world.noun()} until somebody wants to {world.verb()} it."""',
        "",
    ]
    for _ in range(functions):
        lines.append(f"    def {world.function()}(self, {world.noun()}: {world.class_name()}) -> None:")
        for _ in range(world.random.randrange(3, 9)):
            statement = world.random.choice(_STATEMENTS)
            filled = statement.format(
                noun=world.noun(), verb=world.verb(), function=world.function(), cls=world.class_name()
            )
            lines.append("        " + filled.replace("\n", "\n    "))
        if world.maybe(0.2):
            lines.append(f"        timeout_s = {world.number(10, 300)}")
        lines.append("")
    return "\n".join(lines)


def diff(world: World, file: str) -> str:
    world.plant("path", file)
    start = world.number(10, 400)
    lines = [
        f"diff --git a/{file} b/{file}", f"index {world.commit()}..{world.commit()} 100644", f"--- a/{file}", f"+++ b/{file}",
        f"@@ -{start},8 +{world.plant('number', start)},9 @@ class {world.class_name()}:",
    ]  # fmt: skip
    for _ in range(world.random.randrange(6, 16)):
        statement = world.random.choice(_STATEMENTS).partition("\n")[0]
        filled = statement.format(
            noun=world.noun(), verb=world.verb(), function=world.function(), cls=world.class_name()
        )
        lines.append(world.random.choice(("+", "-", " ", " ")) + "        " + filled)
    return "\n".join(lines)


def listing(world: World, count: int) -> str:
    lines = [f"total {world.number(40, 900)}"]
    for _ in range(count):
        name = world.file().rpartition("/")[2]
        world.planted[-1] = ("path", name)
        lines.append(f"-rw-r--r--  1 app app {world.number(200, 90_000):>6} {world.stamp('%b %d %H:%M')} {name}")
    return "\n".join(lines)


def matches(world: World, count: int) -> str:
    lines = []
    for _ in range(count):
        text = world.random.choice(_STATEMENTS).partition("\n")[0]
        filled = text.format(noun=world.noun(), verb=world.verb(), function=world.function(), cls=world.class_name())
        lines.append(f"{world.file()}:{world.number(10, 600)}:    {filled}")
    return "\n".join(lines)


def failing_tests(world: World, test: str) -> str:
    name = f"test_{world.function()}"
    expected, got = world.number(), world.number()
    error = world.error(f"AssertionError: expected {expected} {world.noun()}s, got {got}")
    return "\n".join([
        "============================= test session starts ==============================",
        f"platform linux -- Python {world.version()}, pytest-{world.version()}, pluggy-{world.version()}",
        f"collected {world.number()} items", "",
        f"{world.plant('path', test)} ..................F....                        [100%]", "",
        "=================================== FAILURES ===================================",
        f"___________________________ {name} ___________________________", "",
        source(world, 1), "",
        f"E       {error}", "",
        f"{world.plant('path', test)}:{world.number(20, 400)}: AssertionError",
        "=========================== short test summary info ============================",
        f"FAILED {world.plant('path', test)}::{name} - {error}",
        f"1 failed, {world.number()} passed in {world.measure()}",
    ])  # fmt: skip


def passing_tests(world: World) -> str:
    lines = [f"{file} {'.' * world.random.randrange(4, 40)}" for file in sorted({world.test_file() for _ in range(6)})]
    return "\n".join([*lines, "", f"{world.number()} passed, {world.number(10, 30)} skipped in {world.measure()}"])


def trace(world: World) -> str:
    lines = [f"{world.stamp('%Y-%m-%dT%H:%M:%S.%fZ')} ERROR unhandled exception request_id={world.request()}",
             "Traceback (most recent call last):"]  # fmt: skip
    for _ in range(world.random.randrange(3, 8)):
        statement = world.random.choice(_STATEMENTS).partition("\n")[0]
        filled = statement.format(
            noun=world.noun(), verb=world.verb(), function=world.function(), cls=world.class_name()
        )
        lines += [
            f'  File "/srv/app/{world.file()}", line {world.number(10, 700)}, in {world.function()}',
            f"    {filled}",
        ]
        # It stands there with the folder of the deployment before it.
        kind, path = world.planted[-2]
        world.planted[-2] = (kind, f"/srv/app/{path}")
    errors = (
        lambda: f"TimeoutError: no answer from db after {world.measure()}",
        lambda: f"KeyError: '{world.noun()}_id'",
        lambda: f"ConnectionRefusedError: [Errno 111] connect to 10.0.{world.random.randrange(10, 250)}.17:5432 failed",
    )
    return "\n".join([*lines, world.error(world.random.choice(errors)())])


def log(world: World, count: int) -> str:
    style = world.random.choice(("logfmt", "json", "classic"))
    return "\n".join(_log_line(world, style) for _ in range(count))


def _log_line(world: World, style: str) -> str:
    level, method = world.random.choice(_LEVELS), world.random.choice(_METHODS)
    doing = world.random.choice(_DOINGS).format(noun=world.noun(), verb=world.verb())
    # Not every line belongs to a request, and a request has several lines.
    request = world.request() if world.maybe(0.3) else None
    path = f"/v1/{world.noun()}s"
    if style == "json":
        ids = f', "request_id": "{request}", "duration_ms": {world.number(10, 4000)}' if request else ""
        return f'{{"ts": "{world.stamp("%Y-%m-%dT%H:%M:%SZ")}", "level": "{level.lower()}", "logger": "{world.system}", "msg": "{doing}"{ids}}}'
    if style == "logfmt":
        ids = (
            f" request_id={request} method={method} path={world.plant('path', path)} status={world.number(200, 504)} duration_ms={world.number(10, 4000)}"
            if request
            else ""
        )
        return (
            f'time={world.stamp("%Y-%m-%dT%H:%M:%SZ")} level={level.lower()} logger={world.system} msg="{doing}"{ids}'
        )
    ids = f" [{request}] {method} {world.plant('path', path)} took {world.measure()}" if request else ""
    return f"{world.stamp('%Y-%m-%d %H:%M:%S')},{world.random.randrange(100, 999)} {level:<5} {world.system}.{world.noun()}: {doing}{ids}"


def pods(world: World, count: int) -> str:
    lines = ["NAME                                 READY   STATUS             RESTARTS   AGE    IP            NODE"]
    for _ in range(count):
        state = world.random.choice(("Running", "Running", "Running", "CrashLoopBackOff", "Pending"))
        address = world.plant(
            "id", f"10.{world.random.randrange(255)}.{world.random.randrange(255)}.{world.random.randrange(2, 255)}"
        )
        lines.append(
            f"{world.pod()}   1/1     {state:<18} {world.number(10, 90):<10} {world.random.randrange(2, 9)}d     {address}   node-{world.random.randrange(1, 9)}"
        )
    return "\n".join(lines)


def table(world: World, count: int) -> str:
    lines = ["  region   |  count  |    sum     |  newest", "-----------+---------+------------+------------"]
    for _ in range(count):
        region = f"{world.random.choice(('eu', 'us', 'ap', 'sa'))}-{world.random.choice(('west', 'east', 'north'))}-{world.random.randrange(1, 4)}"
        lines.append(
            f" {region:<9} | {world.number(100, 99_000):>7} | {world.decimal():>10} | {world.stamp('%Y-%m-%d')}"
        )
    return "\n".join([*lines, f"({count} rows)"])


def http_answer(world: World) -> str:
    items = ",\n".join(
        f'    {{"id": "{world.identifier()}", "state": "{world.verb()}d", "amount": {world.decimal()}, "currency": "EUR", "description": '
        f'"{world.noun()} that waits until somebody can {world.verb()} it"}}'
        for _ in range(world.random.randrange(3, 9))
    )
    return f'{{\n  "items": [\n{items}\n  ],\n  "next": "{world.url()}",\n  "total": {world.number(100, 9000)}\n}}'


def log_of_commits(world: World, count: int) -> str:
    return "\n".join(
        f"{world.commit()} {world.verb()} the {world.noun()} before the {world.noun()} (#{world.number(100, 4000)})"
        for _ in range(count)
    )


def build(world: World) -> str:
    lines = []
    for step in range(1, world.random.randrange(6, 12)):
        lines.append(
            f"#{step} [{step}/11] RUN {world.verb()} --no-cache {world.noun()}s && rm -rf /var/cache/{world.noun()}"
        )
        lines.append(
            f"#{step} DONE {world.random.randrange(11, 900) / 10:.1f}s" if world.maybe(0.5) else f"#{step} CACHED"
        )
    digest = world.plant("id", f"sha256:{world.hexadecimal(64)}")
    lines += [
        f"exporting layers done, {world.measure()}",
        f"writing image {digest}",
        f"naming to registry.{world.domain}/{world.system}:{world.version()}",
    ]
    return "\n".join(lines)


def plan_of_infrastructure(world: World) -> str:
    lines = ["Terraform will perform the following actions:", ""]
    for _ in range(world.random.randrange(2, 6)):
        lines += [
            f"  # module.{world.noun()}.aws_instance.{world.function()} will be updated in-place",
            f'  ~ resource "aws_instance" "{world.function()}" {{',
            f'        id            = "{world.plant("id", "i-0" + world.hexadecimal(16))}"',
            f"      ~ volume_size   = {world.number(10, 90)} -> {world.number(100, 900)}",
            f'      ~ tags          = {{ "owner" = "{world.email()}" }}', "        # (unchanged attributes hidden)", "    }", "",
        ]  # fmt: skip
    return "\n".join([*lines, f"Plan: 0 to add, {world.number(10, 40)} to change, 0 to destroy."])

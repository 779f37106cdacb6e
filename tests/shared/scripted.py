"""A real server that answers what a test tells it to, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from shared.errors import ServiceError
from shared.messages import Info, Problem
from shared.wire import MSGPACK, encode
from tests.harness import serving

INFO = Info(service="scripted", version="1", protocol="v1", details={})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = MSGPACK
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


GOOD = Answer(body=encode(INFO, MSGPACK))


class Silence:
    """Takes the request and never answers."""


class Broken:
    """Closes the connection in the middle of the answer."""


def problem(error: ServiceError, *, media: str = MSGPACK) -> Answer:
    found = Problem(
        type=f"urn:diptych:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        request_id="r1",
        errors=list(error.errors) or None,
        retry_after_s=error.retry_after_s,
    )
    return Answer(error.status, encode(found, media), media.replace("/", "/problem+"))


@dataclass(slots=True)
class Scripted:
    """Answers in turn; the last one again and again."""

    url: str
    answers: list[Answer | type[Silence] | type[Broken]]
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.raw_path, headers, await request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is Silence:
            await asyncio.Event().wait()
        if not isinstance(answer, Answer):
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(
            status=answer.status, body=answer.body, content_type=answer.content_type, headers=answer.headers
        )


@asynccontextmanager
async def scripted(*answers: Answer | type[Silence] | type[Broken]) -> AsyncIterator[Scripted]:
    server = Scripted("", list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with serving(app) as server.url:
        yield server

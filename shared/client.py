"""What both clients do: speak MessagePack or JSON, keep a deadline, and retry what is safe to retry.

A call has one deadline for everything, retries included. A request that the server refused for load (429, 503) or that
never got an answer is sent again, with exponential waiting and whatever Retry-After asks for, as long as the deadline
allows. That is safe because every write of the protocol is idempotent: it carries ids, which the clients make when the
caller gave none. Answers of 4xx are never retried; they raise the error class that the server raised.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
import tenacity
from yarl import URL

from shared.errors import SERVICE_ERRORS, Internal, Malformed, Overloaded, ServiceError, SettingsError, Unavailable
from shared.messages import CheckReport, Deleted, Health, Info, Problem, Snapshot, SnapshotList
from shared.streaming import EVENT_STREAM, LAST_EVENT_ID_HEADER, EventReader, Received
from shared.tracing import inject_trace
from shared.wire import JSON, MSGPACK, decode, encode, invalid_fields, media_type

AnswerT = TypeVar("AnswerT")
MakeForm = Callable[[], aiohttp.FormData]
StructT = TypeVar("StructT", bound=msgspec.Struct)

# Waits double from here with jitter: a restart takes seconds, and a crowd must not come back at once.
_WAIT = tenacity.wait_random_exponential(multiplier=0.1, max=2.0)
_OPERATING_TIMEOUT_S: Final = 3600.0
_STREAM_SILENCE_S: Final = 45.0
# Before a stream that broke is opened again: whoever ends it at once must not be asked a thousand times a second.
_RECONNECT_S: Final = 0.2
_CLASSES: Final = {error.code: error for error in SERVICE_ERRORS}


class ServiceClient:
    """Use as an async context manager, or call `close`. One client serves any number of concurrent calls."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        encoding: str = MSGPACK,
        retries: bool = True,
        reconnects: bool = True,
    ) -> None:
        """`retries=False` is for callers with a better plan than waiting, such as answering without the other service.
        `reconnects=False` is for people: where nothing listens they are told at once, not at the deadline.
        Raises SettingsError for a `url` that is none."""
        self.url = _service_url(url)
        self.timeout_s = timeout_s
        self._stop = tenacity.stop_before_delay if retries else (lambda _: tenacity.stop_after_attempt(1))
        self._retry = tenacity.retry_if_exception(_passes if reconnects else _passes_once_connected)
        self._encoding = media_type(encoding)
        self._headers = {"Accept": self._encoding, "Content-Type": self._encoding}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ready(self) -> Health:
        """Raises Unavailable, saying what it waits for, until the service is ready. Never retried."""
        async with self._deadline(self.timeout_s):
            return await self._attempt("GET", "/readyz", Health, None, None, {})

    async def info(self) -> Info:
        return await self._call("GET", "/v1/info", Info)

    async def check(self) -> CheckReport:
        """Compares every projection with the truth. Needs the scope admin; may take minutes on a large store."""
        return await self._call("POST", "/v1/check", CheckReport, timeout_s=max(self.timeout_s, _OPERATING_TIMEOUT_S))

    async def create_snapshot(self) -> Snapshot:
        """Copies the service's whole truth into a folder on its machine. Needs the scope admin; writes go on meanwhile."""
        return await self._call("POST", "/v1/snapshots", Snapshot, timeout_s=max(self.timeout_s, _OPERATING_TIMEOUT_S))

    async def snapshots(self) -> SnapshotList:
        return await self._call("GET", "/v1/snapshots", SnapshotList)

    async def delete_snapshot(self, name: str) -> Deleted:
        return await self._call("DELETE", f"/v1/snapshots/{quoted(name)}", Deleted)

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[AnswerT],
        *,
        body: msgspec.Struct | MakeForm | None = None,
        query: msgspec.Struct | None = None,
        timeout_s: float | None = None,
        bearer: str | None = None,
    ) -> AnswerT:
        """Raises ServiceError. `bearer` replaces the client's own key for this call. A form is made anew for each
        attempt, since sending one uses it up."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        retrying = tenacity.AsyncRetrying(
            stop=self._stop(limit_s),
            wait=_wait_s,
            retry=self._retry,
            reraise=True,
        )
        async with self._deadline(limit_s):
            async for attempt in retrying:
                with attempt:
                    return await self._attempt(method, path, answer, body, query, headers)
        raise AssertionError("unreachable: the last attempt answers or raises")

    async def _events(self, path: str, kind: type[AnswerT]) -> AsyncGenerator[AnswerT, None]:
        """A stream's events, for as long as the caller reads: where it breaks or ends, the next connection asks for what
        came after the last event.

        There is no deadline for the whole, but `timeout_s` without a connection is too long. Raises ServiceError.
        """
        url = URL(f"{str(self.url).rstrip('/')}{path}", encoded=True)
        last_id = ""
        while True:
            retrying = tenacity.AsyncRetrying(
                stop=self._stop(self.timeout_s), wait=_wait_s, retry=self._retry, reraise=True
            )
            async for attempt in retrying:
                with attempt:
                    async with self._deadline(self.timeout_s):
                        response = await self._open_stream(url, last_id)
            # Cut in the middle, the server restarts, or something in between gave up.
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with response:
                    async for event in _read_events(response):
                        last_id = event.id
                        yield decode(event.data.encode(), JSON, kind)
            await asyncio.sleep(_RECONNECT_S)

    async def _open_stream(self, url: URL, last_id: str) -> aiohttp.ClientResponse:
        headers = self._headers | {"Accept": f"{EVENT_STREAM}, {JSON};q=0.9"}
        if last_id:
            headers[LAST_EVENT_ID_HEADER] = last_id
        inject_trace(headers)
        # Pings come several times in this; a server that is silent for longer has gone.
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_STREAM_SILENCE_S)
        try:
            response = await self._open_session().get(url, headers=headers, timeout=timeout)
            if response.status >= 400:  # noqa: PLR2004 - HTTP's line between answers and errors
                async with response:
                    raise _error_of(response, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from error
        return response

    async def _download(self, path: str, query: msgspec.Struct, media: str) -> AsyncGenerator[bytes, None]:
        """An answer's bytes as they come. Never retried, and without a deadline for the whole. Raises ServiceError."""
        headers = self._headers | {"Accept": f"{media}, {JSON};q=0.1"}
        inject_trace(headers)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_STREAM_SILENCE_S)
        try:
            async with self._open_session().get(
                self._address(path, query), headers=headers, timeout=timeout
            ) as response:
                if response.status >= 400:  # noqa: PLR2004 - HTTP's line between answers and errors
                    raise _error_of(response, await response.read())
                async for part in response.content.iter_any():
                    yield part
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self.url} broke off: {str(error) or type(error).__name__}") from error

    async def _upload(self, path: str, parts: AsyncIterable[bytes], media: str, answer: type[AnswerT]) -> AnswerT:
        """Sends bytes as they are made. Never retried, because `parts` are used up, and without a deadline for the whole."""
        headers = self._headers | {"Content-Type": media, "Accept": self._encoding}
        inject_trace(headers)
        try:
            async with self._open_session().post(self._address(path, None), data=parts, headers=headers) as response:
                return _answer_of(response, await response.read(), answer)
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self.url} broke off: {str(error) or type(error).__name__}") from error

    def _address(self, path: str, query: msgspec.Struct | None) -> URL:
        return URL(f"{str(self.url).rstrip('/')}{path}", encoded=True).with_query(_query_values(query))

    @asynccontextmanager
    async def _deadline(self, limit_s: float) -> AsyncIterator[None]:
        """Raises Unavailable when the time is up."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise Unavailable(f"{self.url} did not answer within {limit_s:g} s") from error

    async def _attempt(
        self,
        method: str,
        path: str,
        answer: type[AnswerT],
        body: msgspec.Struct | MakeForm | None,
        query: msgspec.Struct | None,
        extra_headers: dict[str, str],
    ) -> AnswerT:
        headers = self._headers | extra_headers
        inject_trace(headers)
        data: BytesIO | aiohttp.FormData | None = None
        if isinstance(body, msgspec.Struct):
            # As a file, because aiohttp sends bytes in one piece and warns that a large one holds up the event loop.
            data = BytesIO(encode(body, self._encoding))
        elif body is not None:
            data = body()
            del headers["Content-Type"]  # the form has its own, with its boundary
        try:
            async with self._open_session().request(
                method, self._address(path, query), data=data, headers=headers
            ) as response:
                return _answer_of(response, await response.read(), answer)
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The deadline is ours; aiohttp's own would end calls that a caller gave more time.
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._session


async def _read_events(response: aiohttp.ClientResponse) -> AsyncIterator[Received]:
    reader = EventReader()
    async for part in response.content.iter_any():
        for event in reader.feed(part):
            yield event


def quoted(part: str) -> str:
    """An id as one path segment, slashes included."""
    return quote(part, safe="")


def build(kind: type[StructT], /, **fields: Any) -> StructT:
    """A request from keyword arguments, checked as the server would. Raises InvalidFields before anything is sent."""
    try:
        return msgspec.convert({name: value for name, value in fields.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise invalid_fields(error, root="$") from error


def _service_url(url: str) -> URL:
    try:
        found = URL(url)
    except ValueError as error:
        raise SettingsError(f"{url!r} is no address: {error}") from error
    if found.scheme not in {"http", "https"} or not found.host:
        raise SettingsError(f"{url!r} is no address of a service; one looks like http://127.0.0.1:7801")
    return found


def _query_values(query: msgspec.Struct | None) -> dict[str, str]:
    values = msgspec.to_builtins(query) if query is not None else {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _passes(error: BaseException) -> bool:
    return isinstance(error, (Unavailable, Overloaded))


def _passes_once_connected(error: BaseException) -> bool:
    return _passes(error) and not isinstance(error.__cause__, aiohttp.ClientConnectorError)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, ServiceError) and error.retry_after_s else 0.0
    return max(asked_s, _WAIT(state))


def _answer_of(response: aiohttp.ClientResponse, payload: bytes, kind: type[AnswerT]) -> AnswerT:
    if response.status >= 400:  # noqa: PLR2004 - HTTP's line between answers and errors
        raise _error_of(response, payload)
    try:
        return decode(payload, media_type(response.content_type), kind)
    except ServiceError as error:  # whoever answered is no such service, and the caller did nothing wrong
        raise Internal(f"{response.url.origin()} did not answer with a {kind.__name__}: {error.detail}") from error


def _error_of(response: aiohttp.ClientResponse, payload: bytes) -> ServiceError:
    """The server's own error class. A body that is not problem details comes from something in between, like a proxy."""
    status = response.status
    try:
        problem = decode(payload, media_type(response.content_type.replace("problem+", "")), Problem)
    except ServiceError:
        detail = f"status {status}: {payload[:200].decode('utf-8', 'replace')}"
        by_status = next((error for error in SERVICE_ERRORS if error.status == status), None)
        kind = by_status or (Internal if status >= 500 else Malformed)  # noqa: PLR2004 - as above
        asked = response.headers.get("Retry-After", "")
        return kind(detail, retry_after_s=float(asked) if asked.isdecimal() else None)
    kind = _CLASSES.get(problem.code, Internal)
    return kind(
        problem.detail,
        errors=problem.errors or (),
        retry_after_s=problem.retry_after_s,
        request_id=problem.request_id,
    )


__all__ = ["JSON", "MSGPACK", "MakeForm", "ServiceClient", "build", "quoted"]

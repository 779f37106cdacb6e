"""The issuer's public keys: fetched when they are needed, kept for a while, and looked at again for a key that is new.

An issuer that cannot be asked closes nothing at once: keys that were seen go on for an hour. Without any, whether a token is
good cannot be told, which is neither yes nor no: Unavailable. However many tokens come in, the issuer is asked at most once in
`RETRY_S`, and for keys that nobody has heard of once in `UNKNOWN_S`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog

from shared.errors import Unavailable

# How long a key that the issuer has withdrawn may still be taken.
FRESH_S: Final = 300.0
# The same while the issuer cannot be asked.
STALE_S: Final = 3600.0
RETRY_S: Final = 5.0
UNKNOWN_S: Final = 30.0
_TIMEOUT_S: Final = 5.0
_BYTES_MAX: Final = 256 * 1024

log = structlog.get_logger()

Jwk = dict[str, Any]
FoundT = TypeVar("FoundT", bound=msgspec.Struct)


class _Metadata(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[Jwk]


class SigningKeys:
    def __init__(self, issuer: str, jwks_url: str | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._now = now
        self._keys: Sequence[Jwk] = ()
        self._fetched_at: float | None = None
        self._tried_at = -RETRY_S - 1
        self._unknown_at: float | None = None
        self._turn = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def all(self) -> Sequence[Jwk]:
        """Raises Unavailable."""
        if self._age() < FRESH_S:
            return self._keys
        async with self._turn:
            if self._age() >= FRESH_S and self._now() - self._tried_at > RETRY_S:
                await self._fetch()
        if self._age() >= STALE_S:
            raise Unavailable("the issuer of access tokens cannot be asked for its keys", retry_after_s=RETRY_S)
        return self._keys

    async def looked_at_again(self) -> Sequence[Jwk]:
        """For a key that is not among them: it may be new. What is known already, where that was done just now. Raises
        Unavailable."""
        async with self._turn:
            if self._unknown_at is None or self._now() - self._unknown_at > UNKNOWN_S:
                self._unknown_at = self._now()
                if not await self._fetch():
                    raise Unavailable("the issuer of access tokens cannot be asked for its keys", retry_after_s=RETRY_S)
        return self._keys

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._now() - self._fetched_at

    async def _fetch(self) -> bool:
        """Whether it could be done."""
        self._tried_at = self._now()
        try:
            url = self._jwks_url or await self._discovered()
            self._keys = (await self._read(url, _KeySet)).keys
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            log.warning("oauth_keys_unavailable", issuer=self._issuer, error=f"{type(error).__name__}: {error}")
            return False
        self._fetched_at = self._now()
        return True

    async def _discovered(self) -> str:
        """Raises ValueError where the issuer says nothing of itself, or says that it is somebody else."""
        for url in metadata_urls(self._issuer):
            try:
                found = await self._read(url, _Metadata)
            except aiohttp.ClientResponseError as error:
                if error.status < 500:  # noqa: PLR2004 - HTTP's line: not here, but perhaps at the next place
                    continue
                raise
            if found.issuer != self._issuer:
                raise ValueError(f"{url} says that it is of {found.issuer!r}")
            if urlsplit(found.jwks_uri).scheme != urlsplit(url).scheme:
                raise ValueError(f"{url} names keys at {found.jwks_uri!r}, which is not as safe as itself")
            return found.jwks_uri
        raise ValueError("there is no metadata; set oauth_jwks_url")

    async def _read(self, url: str, kind: type[FoundT]) -> FoundT:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), raise_for_status=True
            )
        async with self._session.get(url, headers={"Accept": "application/json"}, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - a redirect
                raise ValueError(f"{url} answered {response.status}")
            data = await response.content.read(_BYTES_MAX + 1)
            while not response.content.at_eof() and len(data) <= _BYTES_MAX:
                data += await response.content.read(_BYTES_MAX + 1 - len(data))
            if len(data) > _BYTES_MAX:
                raise ValueError(f"{url} answered more than {_BYTES_MAX} bytes")
            return msgspec.json.decode(data, type=kind)


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer says where its keys are: RFC 8414, then OpenID Connect, which puts its path first."""
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    return (
        f"{base}/.well-known/oauth-authorization-server{path}",
        f"{base}{path}/.well-known/openid-configuration",
    )

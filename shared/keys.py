"""API keys: made once, shown once, stored as a hash, bound to one tenant, limited to scopes.

The file is a small SQLite database of its own, shared by both services and the command line. It uses a rollback journal
rather than WAL, because then every commit raises the change counter in the file's header: a service reads those four
bytes on each request and reloads when they moved, so a revoked key is refused at once, without a query per request.
The keys are 256 random bits, so a plain SHA-256 is enough; slow password hashes defend guessable secrets.

Until the first key is made a server is open, and may listen on loopback only. From then on every request needs a key,
even when all have been revoked.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shared.errors import Forbidden, SettingsError, Unauthenticated
from shared.messages import Answer, Id

Scope = Literal["retrieval:read", "retrieval:write", "memory:read", "memory:write", "memory:approve", "admin"]
SCOPES: Final[tuple[Scope, ...]] = (
    "retrieval:read",
    "retrieval:write",
    "memory:read",
    "memory:write",
    "memory:approve",
    "admin",
)
# What a key gets that asks for none by name. An agent's own key must not approve what waits for approval.
SCOPES_DEFAULT: Final[tuple[Scope, ...]] = SCOPES[:4]
TENANT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)"
TenantName = Annotated[str, Meta(min_length=1, max_length=64, pattern=TENANT_PATTERN)]
DEFAULT_TENANT: Final = "default"
# The service key's tenant. The leading underscore keeps it out of TenantName, so that no API key can ever share it.
SERVICE_TENANT: Final = "_service"

_PREFIX: Final = "dpt"
# Byte offset of the "file change counter" in a SQLite header, https://www.sqlite.org/fileformat.html#file_change_counter
_CHANGE_COUNTER: Final = (4, 24)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,
    hash BLOB NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT
)
"""
# Files of earlier versions have none. Earlier versions go on reading files that have it.
_ADD_USER = "ALTER TABLE keys ADD COLUMN user_id TEXT"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking. Everything a request reads or writes belongs to `tenant`, and all memory to `user_id` where it is given."""

    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None
    user_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """`admin` implies the others, within the key's tenant."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises Forbidden naming the scope."""
        if not self.may(scope):
            has = ", ".join(sorted(self.scopes)) or "none"
            raise Forbidden(f"this key lacks the scope {scope!r}; it has {has}", scope=scope)


# Where there are no keys.
_ANYONE: Final = Principal(tenant=DEFAULT_TENANT, scopes=frozenset(SCOPES))


class KeyInfo(Answer, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    tenant: str
    name: str
    user_id: str | None = None
    scopes: list[str]
    created_at: str
    revoked_at: str | None = None


class _StoredKey(msgspec.Struct, frozen=True):
    principal: Principal
    hash: bytes
    revoked: bool


class KeyFile:
    """The file itself. Synchronous: for the command line, and for `Authenticator` in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(self._connect()) as connection:
            connection.execute(_SCHEMA)
            _add_user(connection)
        path.chmod(0o600)

    def create(
        self, *, tenant: str, name: str, scopes: Iterable[Scope], user_id: str | None = None
    ) -> tuple[KeyInfo, str]:
        """The key's description, and the key: the only time it is seen. Raises ValidationError for a bad name of a tenant or
        user."""
        msgspec.convert(tenant, TenantName)
        msgspec.convert(user_id, Id | None)
        key_id = secrets.token_hex(6)
        token = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        info = KeyInfo(
            id=key_id,
            tenant=tenant,
            name=name,
            user_id=user_id,
            scopes=sorted(set(scopes)),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with closing(self._connect()) as connection:
            connection.execute(
                "INSERT INTO keys (id, tenant, name, scopes, hash, created_at, user_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (info.id, info.tenant, info.name, " ".join(info.scopes), _digest(token), info.created_at, info.user_id),
            )
        return info, token

    def list(self) -> list[KeyInfo]:
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT id, tenant, name, scopes, created_at, revoked_at, user_id FROM keys ORDER BY created_at, id"
            ).fetchall()
        return [
            KeyInfo(
                id=row[0],
                tenant=row[1],
                name=row[2],
                scopes=row[3].split(),
                created_at=row[4],
                revoked_at=row[5],
                user_id=row[6],
            )
            for row in rows
        ]

    def revoke(self, key_id: str) -> bool:
        """False where no such key is active."""
        with closing(self._connect()) as connection:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            cursor = connection.execute(
                "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, key_id)
            )
            return cursor.rowcount > 0

    def load(self) -> dict[str, _StoredKey]:
        with closing(self._connect()) as connection:
            rows = connection.execute("SELECT id, tenant, scopes, hash, revoked_at, user_id FROM keys").fetchall()
        return {
            row[0]: _StoredKey(
                Principal(tenant=row[1], scopes=frozenset(row[2].split()), key_id=row[0], user_id=row[5]),
                row[3],
                row[4] is not None,
            )
            for row in rows
        }

    def _connect(self) -> sqlite3.Connection:
        # autocommit: every statement here is a whole transaction
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode = DELETE")
        return connection


class Authenticator:
    """Turns an Authorization header into a Principal, or refuses."""

    def __init__(
        self,
        file: KeyFile,
        *,
        service_key: str | None,
        loopback: bool,
        tokens: Callable[[str], Awaitable[Principal]] | None = None,
    ) -> None:
        """`tokens` says who bears what is no key, where another issues access tokens for this server.

        Raises SettingsError where the server would be open to others than this machine."""
        self._file = file
        self._tokens = tokens
        self._service_key = service_key.encode() if service_key else None
        self._descriptor = os.open(file.path, os.O_RDONLY)
        self._counter = self._read_counter()
        self._keys = file.load()
        if self.is_open and not loopback:
            self.close()
            raise SettingsError(
                f"there are no API keys in {file.path}, so the server would be open to everyone who can reach it.\n"
                "  Make one with `diptych keys create`, or listen on 127.0.0.1."
            )

    @property
    def is_open(self) -> bool:
        return not self._keys and self._tokens is None

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises Unauthenticated, for keys always with the same words, so that it tells nothing about which exist; and what
        `tokens` raises."""
        counter = self._read_counter()
        if counter != self._counter:
            self._keys = await asyncio.to_thread(self._file.load)
            self._counter = counter
        token = bearer_token(authorization)
        if token is None:
            if self.is_open:
                return _ANYONE
            raise Unauthenticated("send `Authorization: Bearer KEY`; keys are made with `diptych keys create`")
        if self._service_key and hmac.compare_digest(_bytes(token), self._service_key):
            return Principal(tenant=SERVICE_TENANT, scopes=frozenset({"retrieval:read"}), key_id="service")
        if self._tokens is not None and not token.startswith(f"{_PREFIX}_"):
            return await self._tokens(token)
        return self._find(token)

    def _find(self, token: str) -> Principal:
        parts = token.split("_", 2)
        stored = self._keys.get(parts[1]) if len(parts) == 3 else None  # noqa: PLR2004 - prefix, id, secret
        if stored is None or stored.revoked or not hmac.compare_digest(stored.hash, _digest(token)):
            raise Unauthenticated("this API key is not valid")
        return stored.principal

    def _read_counter(self) -> bytes:
        return os.pread(self._descriptor, *_CHANGE_COUNTER)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _add_user(connection: sqlite3.Connection) -> None:
    """Of two processes that start at once, one adds it and the other finds it there."""
    if any(column[1] == "user_id" for column in connection.execute("PRAGMA table_info(keys)")):
        return
    try:
        connection.execute(_ADD_USER)
    except sqlite3.OperationalError as error:
        if "duplicate column" not in str(error):
            raise


def bearer_token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(_bytes(token)).digest()


def _bytes(token: str) -> bytes:
    """As they came: a header that is not UTF-8 is a wrong key, not a defect."""
    return token.encode("utf-8", "surrogateescape")

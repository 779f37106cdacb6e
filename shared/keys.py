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
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shared.errors import Forbidden, SettingsError, Unauthenticated
from shared.messages import Answer

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
TenantName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)")]
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


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking. Everything a request reads or writes belongs to `tenant`."""

    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None

    def require(self, scope: Scope) -> None:
        """`admin` implies the others, within the key's tenant. Raises Forbidden naming the scope."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this key lacks the scope {scope!r}; it has {', '.join(sorted(self.scopes)) or 'none'}")


# Where there are no keys.
_ANYONE: Final = Principal(tenant=DEFAULT_TENANT, scopes=frozenset(SCOPES))


class KeyInfo(Answer, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    tenant: str
    name: str
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
        path.chmod(0o600)

    def create(self, *, tenant: str, name: str, scopes: Iterable[Scope]) -> tuple[KeyInfo, str]:
        """The key's description, and the key: the only time it is seen. Raises ValidationError for a bad tenant name."""
        msgspec.convert(tenant, TenantName)
        key_id = secrets.token_hex(6)
        token = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        info = KeyInfo(
            id=key_id,
            tenant=tenant,
            name=name,
            scopes=sorted(set(scopes)),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with closing(self._connect()) as connection:
            connection.execute(
                "INSERT INTO keys (id, tenant, name, scopes, hash, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (info.id, info.tenant, info.name, " ".join(info.scopes), _digest(token), info.created_at),
            )
        return info, token

    def list(self) -> list[KeyInfo]:
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT id, tenant, name, scopes, created_at, revoked_at FROM keys ORDER BY created_at, id"
            ).fetchall()
        return [
            KeyInfo(id=row[0], tenant=row[1], name=row[2], scopes=row[3].split(), created_at=row[4], revoked_at=row[5])
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
            rows = connection.execute("SELECT id, tenant, scopes, hash, revoked_at FROM keys").fetchall()
        return {
            row[0]: _StoredKey(
                Principal(tenant=row[1], scopes=frozenset(row[2].split()), key_id=row[0]), row[3], row[4] is not None
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

    def __init__(self, file: KeyFile, *, service_key: str | None, loopback: bool) -> None:
        """Raises SettingsError where the server would be open to others than this machine."""
        self._file = file
        self._service_key = service_key.encode() if service_key else None
        self._descriptor = os.open(file.path, os.O_RDONLY)
        self._counter = self._read_counter()
        self._keys = file.load()
        if not self._keys and not loopback:
            self.close()
            raise SettingsError(
                f"there are no API keys in {file.path}, so the server would be open to everyone who can reach it.\n"
                "  Make one with `diptych keys create`, or listen on 127.0.0.1."
            )

    @property
    def is_open(self) -> bool:
        return not self._keys

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises Unauthenticated, always with the same words, so that it tells nothing about which keys exist."""
        counter = self._read_counter()
        if counter != self._counter:
            self._keys = await asyncio.to_thread(self._file.load)
            self._counter = counter
        token = bearer_token(authorization)
        if token is None:
            if not self._keys:
                return _ANYONE
            raise Unauthenticated("send `Authorization: Bearer KEY`; keys are made with `diptych keys create`")
        if self._service_key and hmac.compare_digest(_bytes(token), self._service_key):
            return Principal(tenant=SERVICE_TENANT, scopes=frozenset({"retrieval:read"}), key_id="service")
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


def bearer_token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(_bytes(token)).digest()


def _bytes(token: str) -> bytes:
    """As they came: a header that is not UTF-8 is a wrong key, not a defect."""
    return token.encode("utf-8", "surrogateescape")

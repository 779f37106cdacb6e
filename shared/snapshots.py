"""Snapshots: whole copies of a service's truth, taken while it runs, each in a folder of its own beside a manifest.

Only the truth is copied. Projections are rebuilt from it, so a snapshot cannot bring an index back that disagrees with it.
A copy is one SQLite read transaction, so it holds everything that was acknowledged before it began and no half of what
came later; writers do not wait for it. It is checked by SQLite before it gets its name: a folder without `.partial` at its
end is a good copy, whatever moment a crash picks.

`restore` puts one back while the service is stopped. The projections go first and the truth is then replaced by one atomic
rename, so that after a crash the service starts with the old truth or the new one, and indexes made from it.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock, Timeout

from shared.database import Database, integrity_problems
from shared.errors import Internal, NotFound, SettingsError
from shared.messages import Answer, Snapshot, SnapshotList

# Raise it when an older `restore` would misread what is written now.
_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_PARTIAL: Final = ".partial"


class Manifest(Answer, frozen=True, kw_only=True):
    """What a snapshot is, and how to tell that it is whole."""

    format: int
    service: str
    version: str
    created_at: datetime
    file: str
    bytes: int
    sha256: str


class Snapshots:
    """The snapshots of one running service, under `<data_dir>/snapshots/`."""

    def __init__(self, database: Database, data_dir: Path, *, service: str, version: str) -> None:
        self._database = database
        self._folder = data_dir.expanduser() / "snapshots"
        self._service = service
        self._version = version
        self._writing = asyncio.Lock()

    async def create(self) -> Snapshot:
        """One at a time; a second caller waits. Raises Unavailable where the disk or the database refuses, Internal where
        the copy is damaged."""
        async with self._writing:
            return await asyncio.to_thread(self._create)

    async def listed(self) -> SnapshotList:
        """Oldest first."""
        return SnapshotList(items=await asyncio.to_thread(lambda: [_described(path) for path in self._paths()]))

    async def delete(self, name: str) -> None:
        """Raises NotFound."""

        def remove() -> None:
            # Looked up by its name among what is there, so that no name reaches outside the folder.
            path = next((path for path in self._paths() if path.name == name), None)
            if path is None:
                raise NotFound(f"there is no snapshot {name!r}")
            shutil.rmtree(path)

        await asyncio.to_thread(remove)

    def _paths(self) -> list[Path]:
        return sorted(
            path for path in self._folder.glob(f"{self._service}-*") if path.suffix != _PARTIAL and path.is_dir()
        )

    def _create(self) -> Snapshot:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._folder.glob(f"{self._service}-*{_PARTIAL}"):
            shutil.rmtree(leftover)
        now = datetime.now(UTC)
        path = self._folder / f"{self._service}-{now:%Y%m%dT%H%M%S.%f}Z"
        partial = path.with_name(path.name + _PARTIAL)
        partial.mkdir(mode=0o700)
        copy = partial / f"{self._service}.db"
        self._database.copy_to(copy)
        if problems := _problems(copy):
            raise Internal(f"the copy is damaged, as the database must be: {problems}")
        manifest = Manifest(
            format=_FORMAT,
            service=self._service,
            version=self._version,
            created_at=now,
            file=copy.name,
            bytes=copy.stat().st_size,
            sha256=_digest(copy),
        )
        (partial / _MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        for written in (copy, partial / _MANIFEST, partial):
            _sync(written)
        partial.rename(path)
        _sync(self._folder)
        return _described(path)


def read_manifest(snapshot: Path) -> Manifest:
    """Raises SettingsError where `snapshot` is no folder of a snapshot, or one of a newer version."""
    try:
        manifest = msgspec.json.decode((snapshot / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"{snapshot} is no snapshot: its {_MANIFEST} cannot be read ({error})") from error
    if manifest.format > _FORMAT:
        raise SettingsError(f"{snapshot} was made by a newer version ({manifest.version}); restore it with that one")
    return manifest


def restore(snapshot: Path, data_dir: Path, *, replace: bool = False) -> Manifest:
    """Puts the snapshot's truth in place of what the stopped service has. Blocking.

    With `replace`, what was there is kept beside it as `<service>.db.before-<time>`. Raises SettingsError, changing nothing,
    where the snapshot is damaged, the service runs, or it has data and `replace` is not set.
    """
    manifest = read_manifest(snapshot)
    source = snapshot / Path(manifest.file).name
    if not source.is_file() or source.stat().st_size != manifest.bytes or _digest(source) != manifest.sha256:
        raise SettingsError(f"{source} is missing or is not the file that its manifest describes")
    directory = data_dir.expanduser() / manifest.service
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = directory / f"{manifest.service}.db"
    with _held(database):
        if database.exists() and not replace:
            raise SettingsError(f"{database} exists; --replace puts the snapshot in its place and keeps it beside it")
        fresh = database.with_suffix(".restored")
        shutil.copyfile(source, fresh)
        if problems := _problems(fresh):
            fresh.unlink()
            raise SettingsError(f"{source} is damaged: {problems}")
        _sync(fresh)
        if database.exists():
            _keep_beside(database)
        for projection in directory.iterdir():
            if projection.is_dir():
                shutil.rmtree(projection)
        _sync(directory)
        fresh.replace(database)
        _sync(directory)
    return manifest


@contextmanager
def _held(database: Path) -> Iterator[None]:
    lock = FileLock(database.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise SettingsError(f"{database} is in use; stop the service before restoring") from error


def _keep_beside(database: Path) -> None:
    """A second name for the old file, with its log folded in, so that replacing the first name loses nothing."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for log in ("-wal", "-shm"):  # closing removes them, unless the file was damaged
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + log).unlink()
    kept = database.with_name(f"{database.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z")
    os.link(database, kept)


def _problems(copy: Path) -> str:
    """What SQLite finds wrong with a file; empty when sound."""
    with closing(sqlite3.connect(copy)) as connection:
        return "; ".join(integrity_problems(connection)[:3])


def _described(path: Path) -> Snapshot:
    manifest = read_manifest(path)
    return Snapshot(
        name=path.name,
        service=manifest.service,
        version=manifest.version,
        path=str(path),
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        created_at=manifest.created_at,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

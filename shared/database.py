"""SQLite inside an async service: one thread writes, a few read, and an acknowledged write survives power loss.

One thread owns the write connection and runs whole units of work, each a function of the connection. One hop per unit
rather than per statement was measured four to six times faster. Units that wait together share one transaction (group
commit), so `synchronous=FULL` costs one sync per group, not per write; a unit that raises is rolled back alone. What the event
loop is asked for in one turn is handed over together: larger groups of many writers, and one wake of the thread for them.
A unit's caller is answered after the commit, never before.

Rejected: aiosqlite (a hop per statement), a pool of writers (SQLite has one writer anyway; waiting in our queue is fair,
waiting in its busy handler is not).
"""

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlite_utils
from filelock import FileLock, Timeout
from sqlite_utils import Migrations

from shared.errors import SettingsError, Unavailable
from shared.threads import Answer, Asked, Hands, answer

ResultT = TypeVar("ResultT")
Unit = Callable[[sqlite3.Connection], ResultT]

# A group's first writer waits for the whole group, so it must stay short beside the sync that it saves.
GROUP_UNITS_MAX: Final = 64
_BUSY_S: Final = 5.0
_CLOSED: Final = "the store is closed"
# How long one attempt to empty the log waits for readers. Writers wait as long, so the caller tries again instead.
_CHECKPOINT_WAIT_MS: Final = 50


class _Pending(Asked[ResultT]):
    """A unit to be written. An `alone` one runs outside of any transaction, and of any group."""

    __slots__ = ("alone",)

    def __init__(self, unit: Unit[ResultT], *, alone: bool = False) -> None:
        super().__init__(unit)
        self.alone = alone


class Database:
    """Owns one database file. `open` in a thread; `close` is idempotent, finishes what was queued, and later use raises."""

    def __init__(self, path: Path, lock: FileLock, *, readers: int) -> None:
        self._path = path
        self._lock = lock
        self._queue: queue.SimpleQueue[_Pending[Any] | None] = queue.SimpleQueue()
        self._local = threading.local()
        # In this turn of the event loop, whose end hands them over.
        self._asked: list[_Pending[Any]] = []
        self._held: _Pending[Any] | None = None
        self._connections: list[sqlite3.Connection] = []
        self._readers = Hands(readers, name="sqlite-read", closed=_CLOSED)
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-write", daemon=True)
        # Grows with each commit, before its callers hear of it: what was read at the same number still holds.
        self.commits = 0
        self._closing = threading.Lock()
        self._closed = False
        self._raw = -1

    @classmethod
    def open(cls, path: Path, migrations: Migrations, *, readers: int) -> "Database":
        """Makes or opens the file and brings its schema up to date. Blocking.

        Raises SettingsError where another process has it open: two owners would each trust their own projections.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not thread-local: it is taken by the thread that opens, and released by the one that closes.
        lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SettingsError(f"{path} is in use by another process; stop it, or choose another data_dir") from error
        database = cls(path, lock, readers=readers)
        connection = database._connect()
        connection.execute("PRAGMA journal_mode = WAL")
        migrations.apply(sqlite_utils.Database(connection))
        connection.close()
        database._raw = os.open(path, os.O_RDONLY)
        database._writer.start()
        return database

    async def write(self, unit: Unit[ResultT]) -> ResultT:
        """Runs `unit` inside a transaction; returns once it is durable. What it raises, this raises, and nothing is written."""
        return await self._submit(unit)

    async def read(self, unit: Unit[ResultT]) -> ResultT:
        """Runs `unit` on a connection that cannot write, inside one snapshot."""
        if self._closed:  # the readers go on until the writer has ended
            raise Unavailable(_CLOSED, retry_after_s=1.0)
        return await self._readers.do(partial(self._run_read, unit))

    @asynccontextmanager
    async def view(self) -> AsyncIterator["View"]:
        """Everything as it is now, for many reads, while writers go on. Until it is closed the log of later writes (WAL)
        can only grow, so it is for work that goes on without pause. Raises Unavailable."""
        if self._closed:
            raise Unavailable(_CLOSED, retry_after_s=1.0)
        # A thread of its own, since a reader's would be kept from others; closing waits there behind the last read.
        thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-view")
        view = View(self._connect, thread)
        try:
            await view.read(_take_snapshot)
            yield view
        finally:
            thread.submit(view.close)
            thread.shutdown(wait=False)

    async def empty_log(self) -> bool:
        """Brings all that is committed into the file and cuts its log to nothing (a TRUNCATE checkpoint). False where a reader
        still needs the log; then try again."""

        def unit(connection: sqlite3.Connection) -> bool:
            connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            try:
                return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(1000 * _BUSY_S)}")

        return await self._submit(unit, alone=True)

    async def vacuum(self) -> None:
        """Writes the file anew, so that nothing is in it that is not in a table. Writers wait: some seconds for a gigabyte.

        Raises Unavailable where there is no room for a second file of its size."""

        def unit(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("VACUUM")
            except sqlite3.Error as error:
                raise Unavailable(f"the store could not be written anew: {error}", retry_after_s=60.0) from error

        await self._submit(unit, alone=True)

    @property
    def file_bytes(self) -> int:
        return os.fstat(self._raw).st_size

    def raw(self, offset: int, length: int) -> bytes:
        """Bytes of the file as it lies on the disk. Blocking.

        By a descriptor of its own that stays open as long as the connections: closing one drops the locks of all in the
        process (https://www.sqlite.org/howtocorrupt.html, section 2.2)."""
        return os.pread(self._raw, length, offset)

    def copy_to(self, path: Path) -> None:
        """Writes what is committed now into a new, compact file. Writers do not wait for it. Blocking.

        Raises Unavailable where the disk or the database refuses.
        """
        connection = self._connect()
        try:
            connection.execute("VACUUM INTO ?", (str(path),))
        except sqlite3.Error as error:
            raise Unavailable(f"the store could not be copied: {error}", retry_after_s=5.0) from error
        finally:
            connection.close()

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._put_asked()
        self._queue.put(None)
        self._writer.join()
        self._readers.close()
        for connection in self._connections:
            connection.close()
        os.close(self._raw)
        self._lock.release()

    def _submit(self, unit: Unit[ResultT], *, alone: bool = False) -> asyncio.Future[ResultT]:
        pending = _Pending(unit, alone=alone)
        with self._closing:  # so that nothing is queued behind the writer's last entry
            if self._closed:
                raise Unavailable(_CLOSED, retry_after_s=1.0)
            self._asked.append(pending)
            if len(self._asked) == 1:
                pending.loop.call_soon(self._hand_over)
        return pending.future

    def _hand_over(self) -> None:
        with self._closing:
            self._put_asked()

    def _put_asked(self) -> None:
        for pending in self._asked:
            self._queue.put(pending)
        self._asked.clear()

    def _run_read(self, unit: Unit[ResultT]) -> ResultT:
        connection = self._reader()
        connection.execute("BEGIN")
        try:
            return unit(connection)
        finally:
            connection.execute("ROLLBACK")

    def _write_loop(self) -> None:
        connection = self._connect()
        try:
            while True:
                group, last = self._take_group()
                if group:
                    alone = group[0].alone
                    outcomes = [_run_alone(connection, group[0])] if alone else _commit_group(connection, group)
                    self.commits += 1
                    answer(outcomes)
                if last:
                    return
        finally:
            connection.close()

    def _take_group(self) -> tuple[list[_Pending[Any]], bool]:
        group: list[_Pending[Any]] = []
        held, self._held = self._held, None
        pending = held or self._queue.get()
        while pending is not None:
            if pending.alone and group:
                self._held = pending
                return group, False
            if not pending.is_abandoned:
                group.append(pending)
                if pending.alone or len(group) == GROUP_UNITS_MAX:
                    return group, False
            try:
                pending = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _reader(self) -> sqlite3.Connection:
        """The calling thread's own."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._connections.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Closed by another thread than the one that used it, after that thread has ended.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        # What is deleted is overwritten, whatever this build of SQLite does by default.
        connection.execute("PRAGMA secure_delete = ON")
        return connection


class View:
    """One snapshot, on a connection that cannot write."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], thread: ThreadPoolExecutor) -> None:
        self._connect = connect
        self._thread = thread
        self._connection: sqlite3.Connection | None = None

    async def read(self, unit: Unit[ResultT]) -> ResultT:
        """Like a database's, but what a unit left open on the connection is there for the next."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, unit)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _run(self, unit: Unit[ResultT]) -> ResultT:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.execute("PRAGMA query_only = ON")
        return unit(self._connection)


def _take_snapshot(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    # A transaction sees everything as it is at its first read.
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()


def _commit_group(connection: sqlite3.Connection, group: list[_Pending[Any]]) -> list[Answer]:
    """Runs the units of a group in one transaction; what each is to be answered after the commit."""
    outcomes: list[Answer] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes.extend(_run_unit(connection, pending, has_company=len(group) > 1) for pending in group)
        if connection.in_transaction:
            connection.execute("COMMIT")
    except sqlite3.Error as error:  # disk full, I/O error: nothing of the group is durable
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        failure = Unavailable(f"the store could not commit: {error}", retry_after_s=5.0)
        failure.__cause__ = error
        outcomes = [(pending, None, failure) for pending in group]
    return outcomes


def _run_alone(connection: sqlite3.Connection, pending: _Pending[Any]) -> Answer:
    try:
        return pending, pending.function(connection), None
    except (sqlite3.Error, Unavailable) as error:
        return pending, None, error


def _run_unit(connection: sqlite3.Connection, pending: _Pending[Any], *, has_company: bool) -> Answer:
    """Among others it has a savepoint of its own; alone in its transaction it needs none."""
    if has_company:
        connection.execute("SAVEPOINT unit")
    try:
        return pending, pending.function(connection), None
    except Exception as error:  # handed to the caller that sent the unit
        if not connection.in_transaction:  # a full disk: SQLite rolled back the whole group, savepoints and all
            raise sqlite3.OperationalError(str(error)) from error
        connection.execute("ROLLBACK TO unit" if has_company else "ROLLBACK")
        return pending, None, error
    finally:
        if has_company and connection.in_transaction:
            connection.execute("RELEASE unit")


def integrity_problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong with the file; empty when sound."""
    found = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return found + [f"broken reference from {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")]

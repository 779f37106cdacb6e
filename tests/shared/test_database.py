"""Writes are durable, grouped and independent of each other; reads see one snapshot; closing loses nothing."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from shared.database import GROUP_UNITS_MAX, Database, Unit, integrity_problems
from shared.errors import SettingsError, Unavailable
from tests.harness import WAIT_S, clean_environment, until
from tests.shared.numbers_database import add, open_numbers, stored

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await asyncio.to_thread(open_numbers, tmp_path / "numbers.db")
    yield opened
    await asyncio.to_thread(opened.close)


class Gate:
    """Holds a unit of work in its thread until it is opened."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, _connection: sqlite3.Connection) -> int:
        self._reached.set()
        assert self._opened.wait(WAIT_S)
        return 0

    async def reached(self) -> None:
        async def is_reached() -> bool:
            return self._reached.is_set()

        await until(is_reached)

    def open(self) -> None:
        self._opened.set()


@asynccontextmanager
async def writer_held(database: Database) -> AsyncIterator[None]:
    """What is submitted inside waits together, and is one group afterwards."""
    gate = Gate()
    holding = asyncio.create_task(database.write(gate))
    await gate.reached()
    yield
    gate.open()
    await holding


async def submit(database: Database, *units: Unit[int]) -> list[asyncio.Task[int]]:
    """The units in the queue, in this order."""
    tasks = [asyncio.create_task(database.write(unit)) for unit in units]
    for _ in range(2):  # turns of the loop: in the first each task asks, and the second hands over what they asked for
        await asyncio.sleep(0)
    return tasks


async def answers(tasks: list[asyncio.Task[int]]) -> list[int | BaseException]:
    async with asyncio.timeout(WAIT_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


def failing(connection: sqlite3.Connection) -> int:
    add(666)(connection)
    raise KeyError("after the insert")


def orphan(connection: sqlite3.Connection) -> int:
    return connection.execute("INSERT INTO children VALUES (7)").rowcount


def fill(connection: sqlite3.Connection) -> int:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return connection.execute("INSERT INTO numbers VALUES (0, zeroblob(1000000))").rowcount


async def make_room(database: Database) -> None:
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())


async def test_many_concurrent_writes_are_all_there(database: Database) -> None:
    numbers = range(3 * GROUP_UNITS_MAX + 5)

    assert await asyncio.gather(*(database.write(add(number)) for number in numbers)) == list(numbers)
    assert await database.read(stored) == set(numbers)


async def test_writes_outlive_the_process_s_own_use(database: Database, tmp_path: Path) -> None:
    await database.write(add(1))
    await asyncio.to_thread(database.close)

    again = await asyncio.to_thread(open_numbers, tmp_path / "numbers.db")
    assert await again.read(stored) == {1}
    await asyncio.to_thread(again.close)


async def test_writes_that_wait_together_are_committed_together(database: Database) -> None:
    gate = Gate()
    async with writer_held(database):
        tasks = await submit(database, add(1), gate)
    await gate.reached()

    seen_before = await database.read(stored)
    answered_before = tasks[0].done()
    gate.open()

    assert await answers(tasks) == [1, 0]
    assert (seen_before, answered_before) == (set(), False)
    assert await database.read(stored) == {1}


async def test_a_group_is_no_larger_than_its_limit(database: Database) -> None:
    gate = Gate()
    async with writer_held(database):
        tasks = await submit(database, *(add(number) for number in range(GROUP_UNITS_MAX)), gate)
    await gate.reached()

    # The one after the limit is at work, in a group of its own: the others have been committed.
    assert await answers(tasks[:-1]) == list(range(GROUP_UNITS_MAX))
    assert not tasks[-1].done()
    gate.open()
    await answers(tasks)


async def test_a_unit_that_raises_is_rolled_back_alone(database: Database) -> None:
    async with writer_held(database):
        tasks = await submit(database, add(1), failing, add(2))
    first, error, second = await answers(tasks)

    assert (first, second) == (1, 2)
    assert isinstance(error, KeyError)
    assert await database.read(stored) == {1, 2}


async def test_a_unit_that_breaks_a_constraint_is_rolled_back_alone(database: Database) -> None:
    async with writer_held(database):
        tasks = await submit(database, add(1), add(1), add(2))
    first, error, second = await answers(tasks)

    assert (first, second) == (1, 2)
    assert isinstance(error, sqlite3.IntegrityError)
    assert await database.read(stored) == {1, 2}


async def test_a_group_that_cannot_be_committed_fails_whole_and_the_store_goes_on(database: Database) -> None:
    async with writer_held(database):
        tasks = await submit(database, add(1), orphan)

    for error in await answers(tasks):
        assert isinstance(error, Unavailable)
        assert error.detail == "the store could not commit: FOREIGN KEY constraint failed"
        assert error.retry_after_s == 5.0
    assert await database.read(stored) == set()
    assert await database.write(add(2)) == 2


async def test_a_full_disk_fails_the_group_by_its_name_and_the_store_goes_on(database: Database) -> None:
    async with writer_held(database):
        tasks = await submit(database, add(1), fill, add(2))
    errors = await answers(tasks)
    await make_room(database)

    assert [type(error) for error in errors] == [Unavailable] * 3
    assert {str(error) for error in errors} == {"the store could not commit: database or disk is full"}
    assert await database.write(add(3)) == 3
    assert await database.read(stored) == {3}
    assert await database.read(integrity_problems) == []


async def test_a_unit_without_company_fails_as_one_of_a_group_does(database: Database) -> None:
    with pytest.raises(KeyError):
        await database.write(failing)
    with pytest.raises(Unavailable, match="could not commit: FOREIGN KEY constraint failed"):
        await database.write(orphan)
    with pytest.raises(Unavailable, match="could not commit: database or disk is full"):
        await database.write(fill)
    await make_room(database)

    assert await database.read(stored) == set()
    assert await database.write(add(1)) == 1
    assert await database.read(stored) == {1}


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    await database.write(add(1))
    gate = Gate()

    def look_twice(connection: sqlite3.Connection) -> tuple[set[int], set[int]]:
        before = stored(connection)
        gate(connection)
        return before, stored(connection)

    reading = asyncio.create_task(database.read(look_twice))
    await gate.reached()
    await database.write(add(2))
    gate.open()

    assert await reading == ({1}, {1})
    assert await database.read(stored) == {1, 2}


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(add(1))
    assert await database.read(stored) == set()


async def test_a_read_that_raises_leaves_its_connection_usable(database: Database) -> None:
    for _ in range(5):  # more than there are connections
        with pytest.raises(sqlite3.OperationalError):
            await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"))

    assert await database.read(stored) == set()


async def test_reads_go_on_while_a_write_is_under_way(database: Database) -> None:
    async with writer_held(database):
        assert await database.read(stored) == set()


async def test_closing_twice_is_closing_once_and_later_use_raises(database: Database) -> None:
    await asyncio.gather(*(asyncio.to_thread(database.close) for _ in range(3)))
    await asyncio.to_thread(database.close)

    for use in (database.read(stored), database.write(add(1))):
        with pytest.raises(Unavailable, match="the store is closed") as caught:
            await use
        assert caught.value.retry_after_s == 1.0


async def test_closing_finishes_what_was_queued(database: Database, tmp_path: Path) -> None:
    async with writer_held(database):
        tasks = await submit(database, *(add(number) for number in range(10)))
        closing_task = asyncio.create_task(asyncio.to_thread(database.close))
        await until(lambda: _is_refused(database))
    await closing_task

    assert await answers(tasks) == list(range(10))
    again = await asyncio.to_thread(open_numbers, tmp_path / "numbers.db")
    assert await again.read(stored) == set(range(10))
    await asyncio.to_thread(again.close)


@pytest.mark.blocking
async def test_closing_finishes_what_was_asked_for_a_moment_before(database: Database, tmp_path: Path) -> None:
    task = asyncio.create_task(database.write(add(1)))
    await asyncio.sleep(0)  # it has asked, and nothing is handed over yet
    database.close()

    assert await answers([task]) == [1]
    again = await asyncio.to_thread(open_numbers, tmp_path / "numbers.db")
    assert await again.read(stored) == {1}
    await asyncio.to_thread(again.close)


async def _is_refused(database: Database) -> bool:
    try:
        await database.read(lambda _: None)
    except Unavailable:
        return True
    return False


async def test_a_writer_that_is_cancelled_in_the_queue_does_not_write(database: Database) -> None:
    async with writer_held(database):
        tasks = await submit(database, add(1), add(2), add(3))
        tasks[1].cancel()
        await asyncio.sleep(0)  # the turn in which the cancellation arrives
    first, cancelled, last = await answers(tasks)

    assert (first, type(cancelled), last) == (1, asyncio.CancelledError, 3)
    assert await database.read(stored) == {1, 3}


async def test_a_writer_that_is_cancelled_at_work_does_not_break_its_neighbours(database: Database) -> None:
    gate = Gate()
    async with writer_held(database):
        tasks = await submit(database, add(1), lambda connection: gate(connection) + add(2)(connection), add(3))
    await gate.reached()
    tasks[1].cancel()
    gate.open()

    first, _, last = await answers(tasks)
    assert (first, last) == (1, 3)
    assert await database.write(add(4)) == 4
    assert await database.read(stored) == {1, 2, 3, 4}


async def test_a_second_opener_is_refused_until_the_first_has_closed(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "numbers.db"

    with pytest.raises(SettingsError, match="is in use by another process") as caught:
        await asyncio.to_thread(open_numbers, path)
    assert str(path) in str(caught.value)

    await asyncio.to_thread(database.close)
    await asyncio.to_thread(lambda: open_numbers(path).close())


def test_a_database_may_be_closed_by_another_thread_than_opened_it(tmp_path: Path) -> None:
    opened = open_numbers(tmp_path / "numbers.db")
    thread = threading.Thread(target=opened.close)
    thread.start()
    thread.join(WAIT_S)

    open_numbers(tmp_path / "numbers.db").close()


def test_a_new_folder_is_closed_to_others(tmp_path: Path) -> None:
    open_numbers(tmp_path / "data" / "numbers.db").close()

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_broken_reference_is_found(tmp_path: Path) -> None:
    open_numbers(tmp_path / "numbers.db").close()

    with closing(sqlite3.connect(tmp_path / "numbers.db")) as connection:
        assert integrity_problems(connection) == []
        connection.execute("INSERT INTO children VALUES (7)")
        assert integrity_problems(connection) == ["broken reference from children"]


async def test_an_acknowledged_write_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "numbers.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.shared.numbers_database", str(path)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT_S):
            lines = [await process.stdout.readline() for _ in range(200)]
            process.kill()
            rest = (await process.stdout.read()).split(b"\n")
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # The last line may be cut off.
    acknowledged = {int(line) for line in [*lines, *rest[:-1]]}

    database = await asyncio.to_thread(open_numbers, path)
    try:
        assert len(acknowledged) >= 200
        assert acknowledged <= await database.read(stored)
        assert await database.read(integrity_problems) == []
    finally:
        await asyncio.to_thread(database.close)


async def test_the_log_is_emptied_once_no_reader_needs_it(database: Database, tmp_path: Path) -> None:
    log = tmp_path / "numbers.db-wal"
    gate = Gate()

    def look_and_wait(connection: sqlite3.Connection) -> int:
        connection.execute("SELECT count(*) FROM numbers").fetchone()
        return gate(connection)

    await database.write(add(1))
    held = asyncio.create_task(database.read(look_and_wait))
    await gate.reached()
    await database.write(add(2))
    assert not await database.empty_log()

    gate.open()
    await held
    assert await database.empty_log()
    assert (await asyncio.to_thread(log.stat)).st_size == 0
    assert database.raw(0, 16) == b"SQLite format 3\0"
    assert await database.read(stored) == {1, 2}


async def test_writing_the_file_anew_waits_for_the_group_before_it_and_loses_nothing(database: Database) -> None:
    async with writer_held(database):
        work = [asyncio.create_task(database.write(add(number))) for number in range(3)]
        await asyncio.sleep(0)
        anew = asyncio.create_task(database.vacuum())
        await asyncio.sleep(0)
        work += [asyncio.create_task(database.write(add(number))) for number in range(3, 6)]
        await asyncio.sleep(0)
    await asyncio.gather(*work, anew)
    assert await database.read(stored) == set(range(6))
    assert database.file_bytes > 0

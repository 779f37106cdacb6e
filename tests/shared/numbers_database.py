"""A database of numbers for tests of `shared.database`; run as a module it writes until it is killed.

`python -m tests.shared.numbers_database PATH` prints each number once the write of it was acknowledged.
"""

import asyncio
import itertools
import sqlite3
import sys
from pathlib import Path
from typing import Final

import sqlite_utils
from sqlite_utils import Migrations

from shared.database import Database, Unit

migrations = Migrations("numbers")
# Enough to share commits, few enough that a kill meets some of them half way.
_WRITERS: Final = 8


@migrations()
def m001_numbers(database: sqlite_utils.Database) -> None:
    """A half without its other half shows a torn write; a child without its parent is found at the commit."""
    database.execute("CREATE TABLE numbers (number INTEGER NOT NULL, half TEXT NOT NULL, PRIMARY KEY (number, half))")
    database.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    database.execute(
        "CREATE TABLE children (parent INTEGER NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
    )


def open_numbers(path: Path, *, readers: int = 2) -> Database:
    return Database.open(path, migrations, readers=readers)


def add(number: int) -> Unit[int]:
    def unit(connection: sqlite3.Connection) -> int:
        connection.executemany("INSERT INTO numbers VALUES (?, ?)", [(number, "first"), (number, "second")])
        return number

    return unit


def stored(connection: sqlite3.Connection) -> set[int]:
    """The numbers that are there. Raises AssertionError where a write was torn."""
    rows = connection.execute("SELECT number, count(*) FROM numbers GROUP BY number").fetchall()
    assert {count for _, count in rows} <= {2}
    return {number for number, _ in rows}


async def _write_for_ever(path: Path) -> None:
    database = await asyncio.to_thread(open_numbers, path)
    numbers = itertools.count()

    async def work() -> None:
        while True:
            print(await database.write(add(next(numbers))), flush=True)  # noqa: T201 - what the parent reads

    await asyncio.gather(*(work() for _ in range(_WRITERS)))


if __name__ == "__main__":
    asyncio.run(_write_for_ever(Path(sys.argv[1])))

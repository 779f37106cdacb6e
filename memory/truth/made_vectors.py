"""What the vectors that lie here are of, and with that whether those of another place could stand beside them."""

import sqlite3
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class MadeVectors:
    """`model` made them, empty before the first. It read texts in the version `embed_text`."""

    model: str
    embed_text: str
    dimensions: int | None

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Self:
        state = dict(
            connection.execute("SELECT name, value FROM state WHERE name IN ('model', 'embed_text')").fetchall()
        )
        model = state.get("model", "")
        found = connection.execute(
            "SELECT length(vector) / 4 FROM vectors WHERE model = ? LIMIT 1", (model,)
        ).fetchone()
        # Databases that do not say so are of the first version.
        return cls(model, state.get("embed_text", "1"), found[0] if found else None)

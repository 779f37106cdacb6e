"""Times as agents write and read them. Pure."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

from msgspec import Meta

from shared.errors import invalid

# A day, or a moment. Models write days more often than not.
When = Annotated[str, Meta(description="2026-11-23, or RFC 3339")]
NEVER: Final = "never"
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def moment_of(given: str | None, name: str, *, at_end: bool = False) -> datetime | None:
    """A day is its beginning in UTC, or its end. Without a zone it is UTC. Raises InvalidFields."""
    if given is None:
        return None
    try:
        if _DAY.fullmatch(given):
            day = datetime.combine(date.fromisoformat(given), time(), UTC)
            return day + timedelta(days=1, microseconds=-1) if at_end else day
        found = datetime.fromisoformat(given)
    except (ValueError, OverflowError) as error:
        raise invalid(name, "is no time; write a day as 2026-11-23 or a moment as 2026-11-23T14:05:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def written(moment: datetime) -> str:
    """To the minute: nobody asks a memory for seconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"

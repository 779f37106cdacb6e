"""What judging means in both services. Pure.

Of two judgments of the same item the one that was made later holds, whichever arrives first; of two made at the same moment
the kinder one. So a retry, and a request that took the long way, change nothing that is newer: any order of arrival, with any
repeats, ends in the same state.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import msgspec

from shared.errors import Conflict, FieldError, InvalidFields
from shared.feedback_messages import JUDGMENTS_MAX, FeedbackAnswer, Relevance
from shared.sql_values import stored_time

KeyT = TypeVar("KeyT")

_GRADES: Final = {"right": 1, "wrong": 0}


@dataclass(frozen=True, slots=True, order=True)
class Verdict:
    """In the order in which one replaces another."""

    judged_at: str
    relevance: int
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A comment and when it was made, which follow the same rule."""

    made_at: str = ""
    text: str = ""

    def or_newer(self, text: str | None, moment: str) -> "Remark":
        if text is None or (moment, text) <= (self.made_at, self.text):
            return self
        return Remark(made_at=moment, text=text)


def grade_of(relevance: Relevance) -> int:
    return relevance if isinstance(relevance, int) else _GRADES[relevance]


def moment_of(judged_at: datetime | None, now: datetime) -> str:
    """As it is stored. A moment that is yet to come counts as now, or nothing could replace it until then."""
    moment = now if judged_at is None else min(judged_at, now)
    return stored_time(moment) or ""


def now() -> datetime:
    return datetime.now(UTC)


def question_hash(*parts: object) -> bytes:
    """What tells a query, with all that it was asked of, from every other."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).digest()


def verdicts(
    given: Iterable[tuple[KeyT, Relevance]], *, moment: str, key_id: str | None, place: str
) -> dict[KeyT, Verdict]:
    """By item. Raises InvalidFields for one that is judged twice."""
    found: dict[KeyT, Verdict] = {}
    errors: list[FieldError] = []
    for index, (key, relevance) in enumerate(given):
        if key in found:
            errors.append(FieldError(f"{place}[{index}]", "is of the same item as one before it; judge each once"))
        found[key] = Verdict(moment, grade_of(relevance), key_id or "")
    refuse(errors)
    return found


def refuse(errors: list[FieldError]) -> None:
    """Raises InvalidFields with all of them, if there are any."""
    if errors:
        raise InvalidFields(f"{errors[0].path}: {errors[0].message}", errors=errors)


def replacing(stored: Mapping[KeyT, Verdict], given: Mapping[KeyT, Verdict]) -> dict[KeyT, Verdict]:
    """What of `given` is new or newer. Raises Conflict where the query would have too many judgments."""
    new = {key: verdict for key, verdict in given.items() if key not in stored or verdict > stored[key]}
    if len(stored.keys() | new.keys()) > JUDGMENTS_MAX:
        raise Conflict(f"the query would have more than {JUDGMENTS_MAX} judgments; delete it, or judge fewer items")
    return new


def check_room(stored: int, per_tenant_max: int) -> None:
    """Raises Conflict where the tenant has as many judged queries as are kept."""
    if stored >= per_tenant_max:
        raise Conflict(
            f"{stored} judged queries are kept, and no more are (feedback_max); export them and delete old ones"
        )


def answer(
    feedback_id: str,
    stored: Mapping[KeyT, Verdict],
    new: Mapping[KeyT, Verdict],
    *,
    is_new: bool,
    has_new_comment: bool,
) -> FeedbackAnswer:
    """`changed` says that something else is said now, not that it was said again."""
    differs = has_new_comment or any(
        key not in stored or stored[key].relevance != verdict.relevance for key, verdict in new.items()
    )
    status: Literal["created", "changed", "unchanged"] = "changed" if differs else "unchanged"
    return FeedbackAnswer(
        id=feedback_id, status="created" if is_new else status, judged=len(stored.keys() | new.keys())
    )

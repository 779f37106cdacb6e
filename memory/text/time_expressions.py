"""Times that a text speaks of: "last Tuesday", "in May 2023", "two weeks ago", "between June and August". Pure.

What is found becomes a range of time, seen from a given moment and in its zone. A small grammar of English, kept strict: a word
that is something else more often than a time is not read as one ("may", "march", "fall", "second") unless what stands
beside it says so. Libraries that find dates in text were looked at and not taken: they answer moments where a range was
said, and find far too much, such as a date in "Do you have a car" (dateparser, its issues 330, 582 and 942; datefinder's
56; parsedatetime has not been released since 2020).

The future is left out: what a memory holds was said before.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from memory.text.words import MONTHS, WEEKDAYS

# Of a memory that goes back further, these are still the years that "in May" is likely to mean.
_YEARS_BACK_MAX: Final = 20
_DAY: Final = timedelta(days=1)

Span = tuple[date, date]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `since` on, and before `until`; None is open. `text` is what was read so."""

    text: str
    since: datetime | None
    until: datetime | None


def find_times(text: str, *, now: datetime, oldest: datetime | None = None) -> list[TimeRange]:
    """In the order of the text. "In May" is the May of each year from now back to `oldest`, newest first."""
    plain = text.lower()
    found = sorted(_atoms(text, plain, _Clock(now.date(), (oldest or now).year)), key=lambda atom: atom.start)
    ranges: list[TimeRange] = []
    at = 0
    while at < len(found):
        atom = found[at]
        other = found[at + 1] if at + 1 < len(found) else None
        if other is not None and _is_pair(plain, atom, other):
            since, until = min(atom.spans[0][0], other.spans[0][0]), max(atom.spans[0][1], other.spans[0][1])
            ranges.append(_range(text[atom.start : other.end], since, until, now))
            at += 2
            continue
        ranges += _bounded(text, plain, atom, now)
        at += 1
    return ranges


@dataclass(frozen=True, slots=True)
class _Clock:
    today: date
    oldest_year: int

    @property
    def years(self) -> range:
        """From this one back."""
        return range(self.today.year, max(self.oldest_year, self.today.year - _YEARS_BACK_MAX) - 1, -1)


@dataclass(frozen=True, slots=True)
class _Atom:
    start: int
    end: int
    spans: list[Span]


def _atoms(text: str, plain: str, clock: _Clock) -> Iterator[_Atom]:
    """Each stretch of text is read once, by the first pattern that fits."""
    taken = [False] * len(plain)
    for pattern, resolve in _PATTERNS:
        for match in pattern.finditer(plain):
            start, end = match.span("core") if "core" in pattern.groupindex else match.span()
            if any(taken[start:end]) or _is_another_word(text, match):
                continue
            try:
                spans = resolve(match, clock)
            except (ValueError, OverflowError):  # the 31st of June, or a day before the calendar's first
                spans = []
            taken[start:end] = [True] * (end - start)
            if spans:
                yield _Atom(start, end, spans)


def _is_another_word(text: str, match: re.Match[str]) -> bool:
    """A "may" or "march" is a month only where a year or a word of time stands beside it, or a capital that no sentence began."""
    groups = match.groupdict()
    word = groups.get("month")
    if word not in {"may", "march", "mar", "dec", "sun", "sat"} or groups.get("year"):
        return False
    start = match.start("month")
    has_capital = text[start].isupper() and not _SENTENCE_START.search(text[:start])
    return not (has_capital or _BEFORE_TIME.search(text[:start].lower()))


def _is_pair(plain: str, first: _Atom, second: _Atom) -> bool:
    opens = _PAIR_OPENS.search(plain[: first.start])
    return opens is not None and _PAIR_JOINS.fullmatch(plain[first.end : second.start]) is not None


def _bounded(text: str, plain: str, atom: _Atom, now: datetime) -> list[TimeRange]:
    """What is said "since May" goes on from there; "before May" it ends there."""
    bound = _BOUND.search(plain[: atom.start])
    if bound is None:
        return [_range(text[atom.start : atom.end], since, until, now) for since, until in atom.spans]
    said = text[bound.start() : atom.end]
    since, until = atom.spans[0]
    match bound["word"]:
        case "since":
            return [_range(said, since, None, now)]
        case "after":
            return [_range(said, until, None, now)]
        case "before" | "prior to":
            return [_range(said, None, since, now)]
        case _:  # by, until
            return [_range(said, None, until, now)]


def _range(text: str, since: date | None, until: date | None, now: datetime) -> TimeRange:
    def at(day: date | None) -> datetime | None:
        return None if day is None else datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)

    return TimeRange(text.strip(), at(since), at(until))


_MONTH_NUMBERS: Final = {
    short: number for number, name in enumerate(MONTHS, start=1) for short in (name.lower(), name[:3].lower())
} | {"sept": 9}
_WEEKDAY_NUMBERS: Final = {name.lower(): number for number, name in enumerate(WEEKDAYS)}
_NUMBERS: Final = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "couple of": 2,
    "a couple of": 2,
    "three": 3,
    "few": 3,
    "a few": 3,
    "four": 4,
    "several": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
}
# From which share of a month or year to which.
_PARTS: Final = {
    "early": (0.0, 1 / 3),
    "beginning of": (0.0, 1 / 3),
    "start of": (0.0, 1 / 3),
    "mid": (1 / 3, 2 / 3),
    "middle of": (1 / 3, 2 / 3),
    "late": (2 / 3, 1.0),
    "end of": (2 / 3, 1.0),
    "first half of": (0.0, 0.5),
    "second half of": (0.5, 1.0),
}
_SEASONS: Final = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
# Days for a unit, as far as "a month ago" can be counted in days.
_UNIT_DAYS: Final = {"day": 1, "week": 7, "month": 30, "year": 365}

_MONTH: Final = rf"(?P<month>{'|'.join(sorted(_MONTH_NUMBERS, key=len, reverse=True))})\b\.?"
_FULL_MONTH: Final = rf"(?P<month>{'|'.join(name.lower() for name in MONTHS)})\b"
_YEAR: Final = r"(?P<year>(?:19[7-9]|20\d)\d)\b(?![-/.,]\d)"
_DAY_NUMBER: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b(?![:.,]\d|\s*(?:am|pm|%)\b)"
_WEEKDAY: Final = rf"(?P<weekday>{'|'.join(_WEEKDAY_NUMBERS)})\b"
_NUMBER: Final = rf"(?P<number>\d{{1,4}}|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_UNIT: Final = r"(?P<unit>day|week|month|year)s?\b"
_PART: Final = r"(?P<part>early|mid|late|(?:beginning|start|middle|end|first half|second half|first week|last week) of)"
_SEASON: Final = rf"(?P<season>{'|'.join(_SEASONS)})\b"
_IN: Final = r"(?:in|during|over|since|until|till|by|before|after|from|to|between|and|of|throughout|around)"

_SENTENCE_START: Final = re.compile(r"(?:^|[.!?:]\s)\s*[\"'(]?$")
_BEFORE_TIME: Final = re.compile(rf"\b(?:{_IN}|on|last|this|early|mid|late|\d(?:st|nd|rd|th)?)[\s-]+(?:the\s+)?$")
_BOUND: Final = re.compile(
    r"\b(?P<word>since|after|before|prior to|until|till|up to|by)\s+(?:(?:the|last|this|past|previous)\s+)?$"
)
_PAIR_OPENS: Final = re.compile(r"\b(?:between|from)\s+(?:the\s+)?$")
_PAIR_JOINS: Final = re.compile(r"\s*(?:and|to|until|till|through|-|\u2013)\s*(?:the\s+)?")


def _month_span(year: int, month: int) -> Span:
    return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)


def _past(spans: Iterator[Span], clock: _Clock) -> list[Span]:
    return [span for span in spans if span[0] <= clock.today]


def _iso_day(match: re.Match[str], _clock: _Clock) -> list[Span]:
    day = date(int(match["y"]), int(match["m"]), int(match["d"]))
    return [(day, day + _DAY)]


def _iso_month(match: re.Match[str], _clock: _Clock) -> list[Span]:
    return [_month_span(int(match["y"]), int(match["m"]))]


def _day_of_month(match: re.Match[str], clock: _Clock) -> list[Span]:
    month, day = _MONTH_NUMBERS[match["month"]], int(match["day"])
    if match["year"]:
        found = date(int(match["year"]), month, day)
        return [(found, found + _DAY)]
    date(2024, month, day)  # a leap year: raises for what is no day in any
    days = (date(year, month, day) for year in clock.years if (month, day) != (2, 29) or _is_leap(year))
    return _past(((found, found + _DAY) for found in days), clock)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _month(match: re.Match[str], clock: _Clock) -> list[Span]:
    month = _MONTH_NUMBERS[match["month"]]
    if match["year"]:
        return [_part_of(match["part"], _month_span(int(match["year"]), month))]
    return _past((_part_of(match["part"], _month_span(year, month)) for year in clock.years), clock)


def _part_of(part: str | None, span: Span) -> Span:
    since, until = span
    if part in {"first week of", "last week of"}:
        return (since, since + 7 * _DAY) if part == "first week of" else (until - 7 * _DAY, until)
    first, last = _PARTS.get(part or "", (0.0, 1.0))
    days = (until - since).days
    return since + int(days * first) * _DAY, until if last == 1.0 else since + int(days * last) * _DAY


def _season(match: re.Match[str], clock: _Clock) -> list[Span]:
    first = _SEASONS[match["season"]]

    def span(year: int) -> Span:
        return date(year, first, 1), _month_span(year + (first + 2) // 13, (first + 1) % 12 + 1)[1]

    if match["year"]:
        return [span(int(match["year"]))]
    begun = _past((span(year) for year in range(clock.today.year, min(clock.years) - 2, -1)), clock)
    match match["which"]:
        case "last":  # the one that is over
            return [each for each in begun if each[1] <= clock.today][:1]
        case "this":
            return begun[:1]
        case _:
            return begun


def _quarter(match: re.Match[str], _clock: _Clock) -> list[Span]:
    year, quarter = int(match["year"]), int(match["quarter"])
    return [(date(year, 3 * quarter - 2, 1), _month_span(year, 3 * quarter)[1])]


def _year(match: re.Match[str], _clock: _Clock) -> list[Span]:
    year = int(match["year"])
    return [_part_of(match["part"], (date(year, 1, 1), date(year + 1, 1, 1)))]


def _near_day(match: re.Match[str], clock: _Clock) -> list[Span]:
    word = match["core"]
    if word == "last night":
        return [(clock.today - _DAY, clock.today + _DAY)]
    back = {"yesterday": 1, "day before yesterday": 2}.get(word, 0)
    return [(clock.today - back * _DAY, clock.today - (back - 1) * _DAY)]


def _ago(match: re.Match[str], clock: _Clock) -> list[Span]:
    """A day is a day; "two weeks ago" is vaguer, by half a week to either side."""
    days = _UNIT_DAYS[match["unit"]]
    middle = clock.today - _count(match["number"]) * days * _DAY
    return [(middle - days // 2 * _DAY, middle + (days // 2 + 1) * _DAY)]


def _rolling(match: re.Match[str], clock: _Clock) -> list[Span]:
    days = _count(match["number"] or "one") * _UNIT_DAYS[match["unit"]]
    return [(clock.today - days * _DAY, clock.today + _DAY)]


def _count(number: str) -> int:
    return int(number) if number.isdecimal() else _NUMBERS[number]


def _calendar_unit(match: re.Match[str], clock: _Clock) -> list[Span]:
    is_this, today = match["which"] == "this", clock.today
    monday = today - today.weekday() * _DAY
    match match["unit"]:
        case "week":
            since = monday if is_this else monday - 7 * _DAY
            return [(since, since + 7 * _DAY)]
        case "weekend":
            saturday = monday + 5 * _DAY if is_this else monday - 2 * _DAY
            return [(saturday, saturday + 2 * _DAY)]
        case "month":
            last = today.replace(day=1) - _DAY
            return [_month_span(today.year, today.month) if is_this else _month_span(last.year, last.month)]
        case _:
            year = today.year if is_this else today.year - 1
            return [(date(year, 1, 1), date(year + 1, 1, 1))]


def _weekday(match: re.Match[str], clock: _Clock) -> list[Span]:
    """The latest one: today where it is "on", and before today where it is "last"."""
    back = (clock.today.weekday() - _WEEKDAY_NUMBERS[match["weekday"]]) % 7
    if back == 0 and match["which"] in {"last", "past", "previous"}:
        back = 7
    day = clock.today - back * _DAY
    return [(day, day + _DAY)]


_Resolve = Callable[[re.Match[str], _Clock], list[Span]]
_GRAMMAR: Final[tuple[tuple[str, _Resolve], ...]] = (
    (r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b", _iso_day),
    (r"\b(?P<y>(?:19|20)\d{2})-(?P<m>0[1-9]|1[0-2])\b(?!-)", _iso_month),
    (rf"\b{_DAY_NUMBER}\s+(?:of\s+)?{_MONTH}(?:,?\s+(?:of\s+)?{_YEAR})?", _day_of_month),
    (rf"\b{_MONTH}\s+(?:the\s+)?{_DAY_NUMBER}(?:,?\s+{_YEAR})?", _day_of_month),
    (rf"\b(?:{_PART}[\s-]+)?{_MONTH},?\s+(?:of\s+)?{_YEAR}", _month),
    (rf"\b{_PART}[\s-]+{_FULL_MONTH}(?P<year>)", _month),
    (rf"\b(?:{_IN}|this|last)\s+(?P<core>(?P<part>){_FULL_MONTH}(?P<year>))", _month),
    (rf"\b(?P<which>){_SEASON}\s+(?:of\s+)?{_YEAR}", _season),
    (rf"\b(?P<which>last|this|in|during|over)\s+(?:the\s+)?(?P<core>{_SEASON}(?P<year>))(?!\s+\w+s\b)", _season),
    (rf"\bq(?P<quarter>[1-4])[\s,]+(?:of\s+)?{_YEAR}", _quarter),
    (rf"\b{_PART}[\s-]+(?P<core>{_YEAR})", _year),
    (rf"\b(?:{_IN}|year)\s+(?P<core>(?P<part>){_YEAR})", _year),
    (
        r"\b(?:the\s+)?(?P<core>day before yesterday|yesterday|last night|today|tonight|this (?:morning|afternoon|evening))\b",
        _near_day,
    ),
    (rf"\b(?:about\s+|around\s+)?{_NUMBER}\s+{_UNIT}\s+(?:ago|back)\b", _ago),
    (rf"\b(?:the\s+)?(?:last|past|previous)\s+{_NUMBER}\s+{_UNIT}", _rolling),
    (rf"\b(?:the\s+past|this\s+past|the\s+last|past)\s+(?P<number>){_UNIT}", _rolling),
    (r"\b(?P<which>last|this|previous)\s+(?P<unit>weekend|week|month|year)\b", _calendar_unit),
    (
        rf"\b(?P<which>last|this past|past|previous|this|on|since|until|till|before|after|by)\s+(?P<core>{_WEEKDAY})",
        _weekday,
    ),
)
_PATTERNS: Final = tuple((re.compile(pattern), resolve) for pattern, resolve in _GRAMMAR)

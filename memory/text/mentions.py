"""What a text mentions that can be checked: numbers, dates, ids, paths and addresses, and whether a source has it. Pure.

What counts as a mention is a function (`Mentions`), so that there may be better ones than `find_mentions`. A mention is
supported where the source has it, as a mention or as plain text, or where it is a number, date or time and all its numbers
stand in the source: `1,200.50` supports `1200.5`, `2023-05-07` supports `May 7, 2023`, and so does a number that is spelled
out. What a summary counts is only checked where it is written in digits.

Of 500 summaries of dialogues that people wrote (DialogSum's), 33 have numbers. Held against their own dialogues 5 of them
mention what is not supported: one is wrong (the 22nd for the 23rd), one names a result that nobody said, and three write it
differently (12.5 for "12 dollars 50 cents"). Held against the next dialogue 31 of them do.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Mentions = Callable[[str], set[str]]

_MONTH: Final = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?)"
)
_NAMED_DAY: Final = (
    rf"{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? \d{{4}})?"
)
# What stands first wins, so that the numbers of an address or a date are no mentions of their own. Each looks behind
# before it reads on: started at every letter of a long line of tool output it would take time in the square of it.
_MENTION: Final = re.compile(
    "|".join(
        (
            r"(?<![\w+.-])[a-z][a-z0-9+.-]*://[^\s<>\"'`)\]]+",
            r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
            r"(?<![\w/.])(?:~|\.{1,2})?(?:/[\w.@+-]+){2,}",
            r"\b[a-z]:\\[\w.\\@+-]+",
            # Without a slash before it only with a suffix after it: he/she is no path.
            r"(?<![\w./-])[\w.-]+(?:/[\w.-]+)+\.\w+",
            r"(?<![\w-])[\w-]+\.(?:c|cfg|conf|cpp|css|csv|go|h|html?|ini|java|js|json|log|md|py|rb|rs|sh|sql|toml|tsx?|txt|ya?ml)\b",
            rf"\b(?:{_NAMED_DAY})\b(?!:\d)",
            r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[^\W\d_])[\w-]+\b",
            r"\b\d+(?:[.,:/-]\d+)*\b",
        )
    ),
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
# Numbers, times, versions, also with a unit: 14:30, 10am, 3rd, 2023-05-07, 78-year-old.
_NUMERIC: Final = re.compile(r"\d+(?:[.,:/-]\d+)*[^\W\d_]{0,3}(?:-[^\W\d_]+)*")
_DAY: Final = re.compile(rf"{_NAMED_DAY}|\d{{4}}-\d\d-\d\d|\d+/\d+/\d+|\d+(?:st|nd|rd|th)|(?:19|20)\d\d", re.IGNORECASE)
_HOUR: Final = re.compile(r"\d{1,2}:\d\d(?::\d\d)?(?:[ap]m)?|\d{1,2}[ap]m", re.IGNORECASE)
_DAYS: Final = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_HOURS: Final = re.compile(r"\b\d{1,2}:\d\d(?::\d\d)?\b")
_MONTH_STARTS: Final = "janfebmaraprmayjunjulaugsepoctnovdec"
_MONTH_NAME: Final = re.compile(rf"\b{_MONTH}\b", re.IGNORECASE)
_SCALES: Final = (100, 1000, 1_000_000)
_SPELLED: Final = {
    word: value
    for words, first, step in (
        ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen", 0, 1),
        ("seventeen eighteen nineteen", 17, 1),
        ("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10),
        ("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth", 1, 1),
    )
    for value, word in zip(itertools.count(first, step), words.split(), strict=False)
} | {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}


def unsupported(text: str, source: str, mentions: Mentions) -> set[str]:
    """What a text mentions and its source does not have."""
    candidates = mentions(text) - mentions(source)
    if not candidates:
        return set()
    known = _known_of(source)
    return {each for each in candidates if not _is_supported(each, known)}


def find_mentions(text: str) -> set[str]:
    """Addresses, paths, file names, dates, ids with digits, and numbers."""
    return {match[0].rstrip(".,;:") for match in _MENTION.finditer(text)}


@dataclass(frozen=True, slots=True)
class _Known:
    """What a source has: its text, its numbers, and those of its dates and of its times. Without that difference the dates
    of turns, which every source has, would support any small number."""

    plain: str
    numbers: set[str]
    days: set[str]
    hours: set[str]


def _known_of(source: str) -> _Known:
    return _Known(
        plain=_plain(source),
        numbers=_numbers(_HOURS.sub(" ", _DAYS.sub(" ", source))) | _spelled_numbers(source),
        days=_numbers(" ".join(_DAYS.findall(source))) | _months(source),
        hours=_numbers(" ".join(_HOURS.findall(source))),
    )


def _is_supported(mention: str, known: _Known) -> bool:
    if _DAY.fullmatch(mention):
        return _numbers(mention) | _months(mention) <= known.numbers | known.days
    if _HOUR.fullmatch(mention):
        return _numbers(mention) <= known.numbers | known.hours
    if _NUMERIC.fullmatch(mention):
        return _numbers(mention) <= known.numbers
    return re.search(rf"(?<!\w){re.escape(_plain(mention))}(?!\w)", known.plain) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _numbers(text: str) -> set[str]:
    """Without separators of thousands, leading zeros and what follows the point in vain. Full hours have no minutes."""
    found = (match[0].replace(",", "") for match in _NUMBER.finditer(text))
    return {number for each in found if (number := _canonical(each)) != "0" or each == "0"}


def _canonical(number: str) -> str:
    whole, _, fraction = number.partition(".")
    return (whole.lstrip("0") or "0") + (f".{fraction.rstrip('0')}" if fraction.rstrip("0") else "")


def _months(text: str) -> set[str]:
    return {str(_MONTH_STARTS.index(name[:3].casefold()) // 3 + 1) for name in _MONTH_NAME.findall(text)}


def _spelled_numbers(text: str) -> set[str]:
    """English ones, each for itself and `twenty five` or `five hundred` together."""
    found: set[str] = set()
    together = 0
    for word in re.findall(r"[a-z]+", text.casefold()):
        value = _SPELLED.get(word)
        if value is None:
            together = 0
            continue
        if value in _SCALES:
            together = max(together, 1) * value
        elif 0 < value < 10 <= together and together % 10 == 0:  # noqa: PLR2004 - tens and units
            together += value
        else:
            together = value
        found |= {str(value), str(together)}
    return found

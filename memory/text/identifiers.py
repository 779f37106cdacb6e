"""Where identifiers stand in a text: paths, URLs, addresses, ids, versions, dates, money and numbers. Pure.

Text is cut at blanks and quotes, and each different piece is looked at once: tool output repeats itself, so this costs a
fraction of running every pattern over all of it. What has blanks inside (dates, money, "412 ms") is found before. No pattern
has a repetition within a repetition of the same characters, so hostile text costs no more than plain text.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from shared.memory_messages import LedgerKind


class Found(NamedTuple):
    kind: LedgerKind
    text: str
    start: int


# Longer pieces are data, not names: encoded images, minified code.
PIECE_CHARACTERS_MAX: Final = 300
_SCHEME_CHARACTERS_MAX: Final = 16
_PIECES_REMEMBERED: Final = 20_000

_MONTH: Final = (
    "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d| ?[ap]\.?m\b)?"
# The next four say first what they can begin with, so that most places of a text cost a look at one character.
_DATE: Final = re.compile(
    rf"(?=\d)(?:(?<![\w/.-])\d{{4}}[-/]\d\d[-/]\d\d(?:[T ]{_CLOCK})?(?![\w-])"
    rf"|(?<![\w/.-])\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? \d{{4}})?(?!\w)"
    rf"|(?<![\w/.:-])\d{{1,2}}(?:\.\d{{1,2}}\.\d{{4}}|/\d{{1,2}}/(?:\d{{4}}|\d\d))(?![\w/.-]*\w)"
    rf"|(?<![\w:.-])(?:{_CLOCK}|\d{{1,2}} ?[ap]\.?m\b)(?![\w:]))"
)
_HAN_DATE: Final = re.compile(r"\d{4}年(?:\d{1,2}月(?:\d{1,2}日)?)?|\d{1,2}月\d{1,2}日")
_MONTH_FIRST: Final = re.compile(
    rf"(?=[JFMASOND])(?:\b{_MONTH} +\d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}}| \d\d:\d\d(?::\d\d)?)?(?![\w:])|\b{_MONTH},? \d{{4}}(?!\w))"
)
# 1,299.00 and 1.299,00, then the plain ones.
_AMOUNT: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d\d|\d+(?:\.\d+)?"
_CURRENCY: Final = "(?:USD|EUR|GBP|JPY|CHF|CNY|INR|CAD|AUD)"
_MONEY: Final = re.compile(
    rf"(?=[$€£¥₹₩\dUEGJCIA])(?:[$€£¥₹₩] ?(?:{_AMOUNT})(?: ?(?:[kKmMbB]|million|billion|thousand)\b)?(?:/[a-z]{{1,10}}\b)?"
    rf"|\b{_CURRENCY} (?:{_AMOUNT})(?![\w.]*\d)"
    rf"|(?<![\w.,])(?:{_AMOUNT}) ?(?:[€£¥₹₩]|(?:{_CURRENCY}|dollars?|euros?|pounds?)\b))"
)
_UNIT: Final = (
    r"(?:[munµ]?s|sec(?:ond)?s?|min(?:ute)?s?|h(?:ou)?rs?|h|days?|weeks?|months?|years?|[kKMGTP]i?[Bb]?|bytes?|[kKMG]?bps|rps|qps"
    r"|[kMG]?Hz|[kmc]?m|k?g|lbs?|miles?|km/h|mph|kWh?|[kKMG]?W|[kKMGTP]?B/s|percent|degrees|°[CF]?|passed|failed|skipped|px|x|times)"
)
# With a comma or a unit apart; others are pieces of their own.
_QUANTITY: Final = re.compile(
    rf"(?=\d)(?<![\w.,-])(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?:%| {_UNIT}\b|{_UNIT}\b)?|\d+(?:\.\d+)? (?:%|{_UNIT}\b))(?!\w|,\d)(?:/[a-z]{{1,6}}\b)?"
)
# Words of scripts without blanks between words, where they are no part of a path.
_UNSPACED: Final = re.compile(
    r"(?<![/\\._-])[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
_PIECE: Final = re.compile(r"""[^\s"'`<>{}|;,“”‘’«»「」『』（），。、：！？]+""")

_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_POSITION: Final = re.compile(r":\d{1,7}(?::\d{1,7})?:?$|\(\d{1,7}\)?$")
_PATH: Final = re.compile(
    r"(?:[A-Za-z]:)?[\w.@~+%()\[\]$:*#-]*(?:[/\\][\w.@+%()\[\]$:*=~#-]*)+(?:\?[\w.=&%+~:\[\]*-]*)?"
)
_WEAK_PATH: Final = re.compile(r"/?[A-Za-z]+/[A-Za-z]+")
_NO_PATH: Final = re.compile(
    r"[\d./]+|HTTP/[\d.]+|.*\]\(.*|(?:application|text|image|audio|video|multipart|font)/[\w.+-]+|\w+/(?:s|h|d|min|sec|hour|day|week|month|year)"
)
_FILE: Final = re.compile(
    r"(?:[\w@+-][\w.@+-]*)?\.(?:py[ix]?|[jt]sx?|[cm][jt]s|json[l5]?|ya?ml|toml|ini|cfg|conf|env|lock|md|rst|txt|log|csv|tsv|parquet|sql"
    r"|sh|bash|zsh|ps1|bat|go|rs|java|kt|scala|swift|rb|php|cs|cpp|cc|hpp|c|h|m|mm|vue|svelte|html?|css|s[ac]ss|less|xml|svg|png|jpe?g"
    r"|gif|webp|pdf|docx?|xlsx?|pptx?|zip|tar|gz|tgz|bz2|xz|whl|jar|so|dll|exe|bin|db|sqlite3?|pem|key|crt|tf|tfvars|proto|graphql|ipynb"
    r"|gitignore|dockerignore|editorconfig|bak|tmp|pid|sock|patch|diff|mp[34]|wav)"
    r"|Dockerfile|Makefile|Procfile|Jenkinsfile|Vagrantfile|CODEOWNERS|LICENSE|README|CHANGELOG"
)
_UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ADDRESS: Final = r"(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?::\d{1,5})?"
_ADDRESS_6: Final = (
    r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|(?:[0-9a-fA-F]{1,4}:){1,6}(?::[0-9a-fA-F]{1,4}){1,6}(?:/\d{1,3})?"
)
_ID: Final = re.compile(
    rf"{_UUID}|{_ADDRESS}|{_ADDRESS_6}|#\d{{1,9}}|0x[0-9a-fA-F]+|(?:sha\d+|md5):[0-9a-fA-F]{{6,128}}|(?:[0-9a-fA-F]{{2}}:){{5}}[0-9a-fA-F]{{2}}"
    r"|arn:[\w:/.*-]+|[A-Z][A-Z0-9]{1,9}-\d{1,7}"
)
_NO_ID: Final = re.compile(
    r"(?:UTF|ISO|SHA|RFC|AES|MD|GPT|COVID|IPV|HTTP|BASE)-?\d+|[xX]86_64|[a-z]+\d{1,2}", re.IGNORECASE
)
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{7,128}|[0-9A-F]{7,128}")
_MIXED_CHARACTERS_MIN: Final = 6
# So long, and one digit tells it from a word.
_KEY_CHARACTERS_MIN: Final = 16
_MIDST: Final = re.compile(r"[_-][A-Za-z]*\d[A-Za-z]+$")
_MIXED: Final = re.compile(r"[A-Za-z0-9]+(?:[_.-][A-Za-z0-9]+)*")
_VERSION: Final = re.compile(
    r"[vV]?\d{1,5}(?:\.\d{1,6}){2,3}(?:[-+.]?(?:rc|alpha|beta|a|b|dev|post|pre|next|canary|SNAPSHOT)[\w.]*)?|[vV]\d{1,4}(?:\.\d{1,4})*"
)
_PLAIN: Final = rf"[~≈±]?(?:\d+(?:\.\d+)?|\.\d+)(?:%|{_UNIT}|[A-Za-z]{{1,2}})?"
_NUMBER: Final = re.compile(
    rf"{_PLAIN}|\d+(?:\.\d+)?[eE][+-]?\d{{1,3}}|(?:\d{{1,4}}[dhm]){{1,3}}\d{{1,4}}(?:\.\d+)?[ms]?|\d{{1,3}}(?:_\d{{3}})+"
)
_RATE: Final = re.compile(rf"{_PLAIN}/[A-Za-z]{{1,8}}")
_RANGE: Final = re.compile(r"(\d+(?:\.\d+)?[A-Za-z%]{0,3})(?:[-–/]|->|→)(\d+(?:\.\d+)?[A-Za-z%]{0,3})")
_DIGIT: Final = re.compile(r"\d")
_DIGITS: Final = re.compile(r"\d+(?:\.\d+)?")
_DOTTED: Final = re.compile(r"\.{1,2}/|\.\w")
_SLASHES: Final = re.compile(r"[=/\\]+")
_INNER: Final = re.compile(r"[=:()\[\]&+*]+|(?<=\w)-(?=\d+\.\d)|\.\.+")


def find(text: str) -> list[Found]:
    """All of them, each as it stands at `start`, not in order. What is part of a larger one is not told again."""
    opened = _opened(text)
    found = list(_urls(text))
    if _DIGIT.search(text) is not None:  # all of these have one, and most sentences have none
        found = _apart([*found, *_matches(_HAN_DATE, "date", text), *_spaced(opened)])
    masked = _without(opened, found)
    for match in _PIECE.finditer(masked):
        piece = match.group()
        if len(piece) > 1:
            for kind, part, offset in _parts(piece):
                start = match.start() + offset
                if _stands(kind, part, masked, start):
                    found.append(Found(kind, part, start))
        elif piece.isdecimal():
            found.append(Found("number", piece, match.start()))
    return found


def _opened(text: str) -> str:
    """With marks in the place of words that would join to what stands among them; all places stay."""
    return text if text.isascii() else _UNSPACED.sub(lambda match: "、" * len(match.group()), text)


def is_weak_path(text: str) -> bool:
    """Two plain words with a slash between: a path only if something else says so ("and/or")."""
    return _WEAK_PATH.fullmatch(text) is not None


def _stands(kind: LedgerKind, part: str, text: str, start: int) -> bool:
    before = text[start - 1 : start]
    return not (kind == "path" and part[0] == "/" and before == "<") and not (
        kind == "path" and before != "`" and is_weak_path(part) and part[0] != "/"
    )


def _spaced(text: str) -> Iterator[Found]:
    yield from _matches(_DATE, "date", text)
    yield from _matches(_MONTH_FIRST, "date", text)
    yield from _matches(_MONEY, "money", text)
    yield from _matches(_QUANTITY, "number", text)


def _matches(pattern: re.Pattern[str], kind: LedgerKind, text: str) -> Iterator[Found]:
    return (Found(kind, match.group(), match.start()) for match in pattern.finditer(text))


_URL_END: Final = re.compile(r"""[^\s"'`<>\\^{}|“”«»「」（），。、]{1,2000}""")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*$")


def _urls(text: str) -> Iterator[Found]:
    at = text.find("://")
    while at >= 0:
        scheme = _SCHEME.search(text, max(0, at - _SCHEME_CHARACTERS_MAX), at)
        rest = _URL_END.match(text, at + 3)
        if scheme is not None and rest is not None:
            found = text[scheme.start() : rest.end()].rstrip(".,;:!?*")
            while found.endswith((")", "]")) and found.count("(") + found.count("[") < found.count(")") + found.count(
                "]"
            ):
                found = found[:-1].rstrip(".,;:!?*")
            yield Found("url", found, scheme.start())
        at = text.find("://", rest.end() if rest is not None else at + 3)


def _apart(found: Iterable[Found]) -> list[Found]:
    """Of those that overlap the one that starts first, and of those the longest."""
    kept, end = [], 0
    for each in sorted(found, key=lambda each: (each.start, -len(each.text))):
        if each.start >= end:
            kept.append(each)
            end = each.start + len(each.text)
    return kept


def _without(text: str, found: list[Found]) -> str:
    """The text with blanks where something was found, so that places stay."""
    kept, last = [], 0
    for _, part, start in found:
        kept += [text[last:start], " " * len(part)]
        last = start + len(part)
    return "".join([*kept, text[last:]])


@lru_cache(maxsize=_PIECES_REMEMBERED)
def _parts(piece: str) -> tuple[tuple[LedgerKind, str, int], ...]:
    """What a piece is, or what its parts are, with their places in it."""
    if len(piece) > PIECE_CHARACTERS_MAX:
        return ()
    stripped, offset = _trimmed(piece)
    if not stripped:
        return ()
    kind = _kind(stripped)
    if kind is not None:
        return ((kind, stripped, offset),)
    return tuple((inner, part, offset + at) for inner, part, at in _inside(stripped))


def _trimmed(piece: str) -> tuple[str, int]:
    """Without the marks of the sentence or code around it, and where that starts in the piece."""
    text = piece.lstrip("*_=&:!?…-+")
    end = text.rstrip(".:!?*_=&-+\\…")
    while end and (end[-1] in ")]" and end.count("(") + end.count("[") < end.count(")") + end.count("]")):
        end = end[:-1].rstrip(".:!?*_=&-+\\…")
    start = 0
    if end[:1] == "(" and end[-1:] == ")" and end.count("(") == 1:
        start, end = 1, end[:-1]
    while (
        start < len(end)
        and end[start] in "(["
        and ("/" not in end or end.count(end[start]) > end.count(")]"["([".index(end[start])]))
    ):
        start += 1
    end = end[start:]
    if end.startswith(".") and not _DOTTED.match(end):
        start += len(end) - len(end.lstrip("."))
        end = end.lstrip(".")
    return end, len(piece) - len(text) + start


def _inside(piece: str) -> Iterator[tuple[LedgerKind, str, int]]:
    if (email := _EMAIL.search(piece)) is not None:
        yield "email", email.group().rstrip("."), email.start()
        return
    if "/" in piece and (position := _POSITION.search(piece)) is not None:
        path = piece[: position.start()]
        if _kind(path) == "path":
            yield "path", path, 0
            yield from (("number", match.group(), match.start()) for match in _DIGITS.finditer(piece, position.start()))
            return
    if piece.startswith(("a/", "b/")) and _kind(piece[2:]) == "path":
        yield "path", piece[2:], 2
        return
    if (bounds := _RANGE.fullmatch(piece)) is not None:
        yield from (("number", bounds.group(place), bounds.start(place)) for place in (1, 2))
        return
    for part, at in _split(piece, _INNER):
        kind = _kind(part)
        if kind is not None:
            yield kind, part, at
        elif "/" in part:
            yield from ((kind, inner, at + start) for inner, start in _split(part, _SLASHES) if (kind := _kind(inner)))


def _split(piece: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """The parts between matches, with their places; nothing where there is no match."""
    last = 0
    for match in pattern.finditer(piece + "="):
        part = piece[last : match.start()]
        trimmed = part.strip(".-_") if part.startswith("#") else part.strip(".-_#") if "/" not in part else part
        if trimmed and len(trimmed) < len(piece):
            yield trimmed, last + part.index(trimmed)
        last = match.end()


def _kind(piece: str) -> LedgerKind | None:
    """What a piece is as a whole. `None` for words, and for what has to be taken apart."""
    if "/" in piece or "\\" in piece:
        return _kind_with_slash(piece)
    if "@" in piece:
        return "email" if _EMAIL.fullmatch(piece) else None
    if _FILE.fullmatch(piece) and not _NUMBER.fullmatch(piece):
        return "path"
    if not any(map(str.isdigit, piece)):
        return None
    if _ID.fullmatch(piece):
        return None if _NO_ID.fullmatch(piece) else "id"
    return next((kind for kind, is_it in _WITH_DIGITS if is_it(piece)), None)


def _is_version(piece: str) -> bool:
    return _VERSION.fullmatch(piece) is not None


def _is_hexadecimal(piece: str) -> bool:
    return _HEXADECIMAL.fullmatch(piece) is not None and not piece.isdecimal()


def _is_number(piece: str) -> bool:
    return _NUMBER.fullmatch(piece) is not None


def _is_mixed(piece: str) -> bool:
    """Letters and numbers as nobody would write a word: two digits, or one in the midst of letters."""
    if (
        len(piece) < _MIXED_CHARACTERS_MIN
        or not _MIXED.fullmatch(piece)
        or _NO_ID.fullmatch(piece)
        or _RANGE.fullmatch(piece)
    ):
        return False
    return (
        sum(map(str.isdigit, piece)) > 1
        or _MIDST.search(piece) is not None
        or (piece.isalnum() and len(piece) >= _KEY_CHARACTERS_MIN)
    )


_WITH_DIGITS: Final[tuple[tuple[LedgerKind, Callable[[str], bool]], ...]] = (
    ("version", _is_version),
    ("id", _is_hexadecimal),
    ("number", _is_number),
    ("id", _is_mixed),
)


def _kind_with_slash(piece: str) -> LedgerKind | None:
    if _ID.fullmatch(piece):
        return "id"
    if _RATE.fullmatch(piece):
        return "number"
    if not _PATH.fullmatch(piece) or _NO_PATH.fullmatch(piece) or piece.startswith(("//", "\\")):
        return None
    if _POSITION.search(piece) or not any(map(str.isalpha, piece)):
        return None
    # As diffs write it: the path begins after that.
    return None if piece.startswith(("a/", "b/")) and _kind(piece[2:]) == "path" else "path"

"""What has words in it and must not be put in other words: commands, errors, quotes and names. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from memory.text.common_words import FILLER_WORDS, FUNCTION_WORDS
from memory.text.identifiers import Found
from memory.text.prose import blocks
from shared.memory_messages import Role

_COMMAND_CHARACTERS_MAX: Final = 400
_ERROR_CHARACTERS_MAX: Final = 200
_NAME_WORDS_MAX: Final = 5

_PROGRAMS: Final = frozenset(
    """
    alembic ansible apt apt-get aws az awk bash black brew bun bundle cargo cat cd chmod chown cmake composer conda cp crontab
    curl cut date dd deno df diff dig django-admin docker docker-compose dotnet du echo env eslint export find flask gcc gcloud
    gh git go gradle grep gunicorn gunzip head helm htop ip java javac jest journalctl jq just kill kubectl less ln ls lsof make
    mkdir mongosh mv mvn mypy mysql nc netstat nginx ninja node npm npx nslookup openssl patch pg_dump pg_restore php ping pip
    pip3 pipx pnpm poetry prettier ps psql pwd pytest python python3 rake redis-cli rg rm rsync ruby ruff rustc scp sed sh
    sort source sqlite3 ss ssh strace su sudo systemctl tail tar tcpdump tee terraform time timeout tmux top touch tox tsc uname
    unzip uv uvicorn vim vite vitest watch wc wget which xargs yarn zip
    """.split()
)
_SHELLS: Final = frozenset(
    {"bash", "sh", "shell", "console", "zsh", "fish", "powershell", "ps1", "bat", "cmd", "terminal"}
)
_PROMPT: Final = re.compile(
    r"^[ \t]{0,20}(?:[\w.-]{1,64}@[\w.-]{1,64}[:~][^\s$#]{0,200})?[$❯][ \t]+(\S[^\n]*)", re.MULTILINE
)
_TICKED: Final = re.compile(r"(?<!`)`([^`\n]{2,400})`(?!`)")
_CALLED: Final = re.compile(r'"(?:command|cmd|script)"\s{0,3}:\s{0,3}"((?:[^"\\\n]|\\.){2,400})"')

_THROWN: Final = re.compile(r"(?:Error|Exception|Violation|Failure|Panic|Fault|Interrupt|Timeout)\b: (?=\S)")
_THROWN_NAME: Final = re.compile(r"[\w.$]+$")
_TOLD: Final = re.compile(
    r"^[ \t]{0,8}(?:E {2,8})?((?:fatal|panic|error|error\[\w{1,12}\]|npm ERR!|FAILED|FATAL|ERR!|Caused by|thread '[^'\n]{1,80}' panicked)[: ][^\n]{3,})"
    r"|\b((?:ERROR|FATAL|CRITICAL)\b[\s:\]][^\n]{3,})"
    r"|\b(exit(?:ed)?(?: with)?(?: exit)? (?:code|status):? -?\d{1,10})",
    re.MULTILINE,
)
_REFUSED: Final = re.compile(
    r"No such file or directory|[Pp]ermission denied|command not found|[Cc]onnection refused|[Tt]imed out|[Oo]ut of memory|OOMKilled"
)
_SENTENCE_END: Final = re.compile(r"[.;!?,](?:\s|$)")

_QUOTE: Final = re.compile(
    r'"([^"\n]{3,200})"|“([^”\n]{3,200})”|«([^»\n]{3,200})»|「([^」\n]{2,200})」|(?<!\w)\'([^\'\n]{3,120})\'(?!\w)'
)
_WORD: Final = re.compile(r"[^\W\d_][\w'’-]*")
_WORD_CHARACTERS_MAX: Final = 60
_PARTICLES: Final = frozenset({"of", "de", "van", "von"})
_BETWEEN: Final = frozenset({" ", " & ", *(f" {particle} " for particle in _PARTICLES)})
_SENTENCE_MARKS: Final = '.!?:;\n"“(*#>-•'
# Capitalised by custom, and no names.
_NO_NAMES: Final = FUNCTION_WORDS | FILLER_WORDS | frozenset(
    "i'm i'll i've i'd that's it's don't let's what's monday tuesday wednesday thursday friday saturday sunday january february "
    "march april may june july august september october november december note done step first second next".split()
)  # fmt: skip


def find_phrases(text: str, role: Role) -> Iterator[Found]:
    """Names and quotes only of what people and agents say: in what tools print, everything is quoted and capitalised."""
    yield from _commands(text, role)
    yield from _errors(text, is_prose=role != "tool")
    if role != "tool":
        for block in blocks(text):
            if block.language is None:
                yield from (each._replace(start=block.start + each.start) for each in _quotes(block.text))
                yield from (each._replace(start=block.start + each.start) for each in _names(block.text))


def is_command(text: str) -> bool:
    """Whether it begins with a program that people start by name, and says what that shall do."""
    first, _, rest = text.strip().partition(" ")
    return bool(rest) and (first in _PROGRAMS or first.startswith("./"))


def _commands(text: str, role: Role) -> Iterator[Found]:
    for match in _PROMPT.finditer(text):
        yield _cut("command", match.group(1), match.start(1), _COMMAND_CHARACTERS_MAX)
    for match in _CALLED.finditer(text):
        yield Found("command", match.group(1), match.start(1))
    if role == "tool":
        return
    for match in _TICKED.finditer(text):
        if is_command(match.group(1)):
            yield Found("command", match.group(1), match.start(1))
    for block in blocks(text):
        if block.language is not None:
            at = block.start
            for line in block.text.splitlines(keepends=True):
                plain = line.strip()
                if plain and plain[0] not in "#$" and (block.language in _SHELLS or is_command(plain)):
                    yield _cut("command", plain, at + line.index(plain), _COMMAND_CHARACTERS_MAX)
                at += len(line)


def _errors(text: str, *, is_prose: bool) -> Iterator[Found]:
    for match in _THROWN.finditer(text):
        name = _THROWN_NAME.search(text, max(0, match.start() - 80), match.start())
        start = name.start() if name else match.start()
        yield _error(text, start, match.end(), is_prose=is_prose)
    for match in _TOLD.finditer(text):
        group = match.lastindex or 0
        yield _cut("error", match.group(group), match.start(group), _ERROR_CHARACTERS_MAX)
    if not is_prose:
        for match in _REFUSED.finditer(text):
            start = max(text.rfind("\n", 0, match.start()) + 1, match.start() - _ERROR_CHARACTERS_MAX // 2)
            yield _error(text, start, match.end(), is_prose=False)


def _error(text: str, start: int, after: int, *, is_prose: bool) -> Found:
    """To the end of its line; in prose to the end of what looks like a sentence."""
    # A little further than it may be long, so that it is cut at a blank.
    furthest = min(len(text), start + _ERROR_CHARACTERS_MAX + 1)
    end = text.find("\n", after, furthest)
    end = furthest if end < 0 else end
    if is_prose and (stop := _SENTENCE_END.search(text, after, end)) is not None:
        end = stop.start()
    return _cut("error", text[start:end], start, _ERROR_CHARACTERS_MAX)


def _quotes(text: str) -> Iterator[Found]:
    for match in _QUOTE.finditer(text):
        group = match.lastindex or 0
        inner = match.group(group)
        if any(map(str.isalnum, inner)):
            yield Found("quote", inner.strip(), match.start(group) + len(inner) - len(inner.lstrip()))


def _names(text: str) -> Iterator[Found]:
    """Runs of capitalised words. A single one only where it does not begin a sentence."""
    run: list[re.Match[str]] = []
    for word in _WORD.finditer(text):
        said = word.group()
        if not said[0].isupper():  # no name; and the next that is one is seen not to join
            continue
        is_name = len(said) <= _WORD_CHARACTERS_MAX and said.lower() not in _NO_NAMES
        joins = run and text[run[-1].end() : word.start()] in _BETWEEN
        if is_name and joins and len(run) < _NAME_WORDS_MAX:
            run.append(word)
            continue
        if run and _is_name(text, run):
            yield Found("name", text[run[0].start() : run[-1].end()], run[0].start())
        run = [word] if is_name else []
    if run and _is_name(text, run):
        yield Found("name", text[run[0].start() : run[-1].end()], run[0].start())


def _is_name(text: str, run: list[re.Match[str]]) -> bool:
    if len(run) > 1:
        return True
    before = text[max(0, run[0].start() - 4) : run[0].start()].rstrip(" ")
    return bool(before) and before[-1] not in _SENTENCE_MARKS


def _cut(kind: str, text: str, start: int, characters_max: int) -> Found:
    """Without blanks around it, and at a blank where it is too long."""
    lead = len(text) - len(text.lstrip())
    text = text.strip()
    if len(text) > characters_max:
        text = text[:characters_max].rsplit(None, 1)[0] if " " in text[:characters_max] else text[:characters_max]
    return Found(kind, text, start + lead)  # type: ignore[arg-type]  # literals of this module

"""Turns as summaries read them, for tests."""

from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st

from memory.truth.records import Line
from shared.memory_messages import Role

MOMENT: Final = datetime(2024, 3, 5, 12, 30, tzinfo=UTC)

_ROLES: Final[tuple[Role, ...]] = ("user", "assistant", "tool", "system")
# What turns are made of: prose in several scripts, identifiers of every kind, blanks and code.
_PIECES: Final = (
    "The deploy failed because the cache was full.", "We moved the invoices to the new store!", "Why is it so slow?", "ok", "Thanks.",
    "Ada Lovelace asked Bob about it.", 'She said "never on a Friday".', "见东京塔。我们星期五再谈,因为服务器坏了。", "昨日は「東京タワー」に行きました。とても楽しかった。",
    "src/app/main.py:12", "tests/test_app.py::test_it", "src/app/main.py", "https://ci.example.org/runs/8812", "req_8k2j3n4m5p", "3f2a91c",
    "PAY-42", "412 ms", "1,234", "99.9%", "17", "170", "$1,299.00", "v1.2.3", "2024-03-05", "14:05", "ada@example.org",
    "$ git push origin main", "```bash\nnpm ci\n```", "```python\nx = 17\n```", "TypeError: x is not a function", "ERROR 17 lost 412 ms",
    "\n", "\n\n", "  ", "\t", "", "🙂", "x" * 400, "a,b;c", "paths: src/a.py", "user: hello",
)  # fmt: skip


def line(seq: int, text: str, *, role: Role = "assistant", speaker: str = "") -> Line:
    return Line(seq=seq, role=role, speaker=speaker or role, created_at=MOMENT, text=text)


TEXTS: Final = st.lists(st.sampled_from(_PIECES), max_size=12).map(" ".join) | st.text(max_size=200)
LINES: Final = st.lists(
    st.tuples(
        st.sampled_from(_ROLES),
        TEXTS,
        st.sampled_from(["Ada", "assistant", "Σ", "a" * 60]),
    ),
    max_size=12,
).map(lambda turns: [line(seq, text, role=role, speaker=name) for seq, (role, text, name) in enumerate(turns, start=3)])

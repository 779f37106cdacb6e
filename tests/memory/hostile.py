"""Texts that make careless patterns slow, and a measure of how cost grows with their length."""

import time
from collections.abc import Callable
from typing import Final

# Repeated, each tempts some pattern to try every end for every start.
HOSTILE_UNITS: Final = (
    "a", "1", ".", "/", "-", "1.", "1,", "a-", "a/", "1:", "a1_", "(", "[", "((", ")]", "#", "@", "a@", "a.", "://", "a://", "http://a ",
    '"', "'", "' ", "“", "`", "``` ", "```\n", "$ ", "$", "\n", "\n ", " ", "\t", "Error: ", "Error: \n", "E   ", "A ", "A", "Mr.", ". ",
    '"command": "', "\\", "\\\\", "x: ", "May ", "1 May ", "1st of ", "$1", "1 USD ", "年", "1年", "。", "日本", "e1", "1e", "0x", "1m", "::",
    "f:", "a:b:", "?a=", "](", "][", "1_", "1 ", "1/", "12:", "12:30 ", "ERROR ", "exit ", "permission denied", "&", "Ab & ", "1-", "..",
)  # fmt: skip
_CHARACTERS: Final = 6000
_GROWN: Final = 4
# Linear cost is 4 times as much, square cost 16 times.
GROWTH_MAX: Final = 10.0
_RUNS: Final = 3
# Less than this is noise.
_TIME_S_MIN: Final = 0.004


def growth(work: Callable[[str], object], unit: str) -> float:
    """How many times more processor time a text of four times the length costs."""
    repeats = _CHARACTERS // len(unit)
    short, long = unit * repeats, unit * (_GROWN * repeats)
    return _least_s(work, long) / max(_least_s(work, short), _TIME_S_MIN)


def _least_s(work: Callable[[str], object], text: str) -> float:
    took = []
    for _ in range(_RUNS):
        started = time.process_time()
        work(text)
        took.append(time.process_time() - started)
    return min(took)

"""What a chunk cannot say of itself: its page, and the columns of the table that it was cut from. Pure."""

from bisect import bisect_right

from retrieval.parsing import Parsed

_COLUMNS_LENGTH_MAX = 300


def columns_above(parsed: Parsed, start: int) -> str | None:
    """The column names of the table in which `start` lies, where they do not come after it: a chunk that starts there
    does not show them."""
    index = bisect_right(parsed.blocks, start, key=lambda block: block.start) - 1
    if index < 0:
        return None
    block = parsed.blocks[index]
    if block.table_header is None or not block.table_header[1] <= start < block.end:
        return None
    header = parsed.text[slice(*block.table_header)]
    return " | ".join(cell.strip() for cell in header.strip().strip("|").split("|"))[:_COLUMNS_LENGTH_MAX]


def page_at(parsed: Parsed, start: int) -> str | None:
    """`page 3`, counting from 1 as readers of the file do."""
    number = bisect_right(parsed.pages, start)
    return f"page {number}" if number else None

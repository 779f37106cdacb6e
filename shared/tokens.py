"""How many tokens a text will cost its reader, estimated the same way everywhere a budget is spent.

Readers are language models with different tokenizers, most of them unknown to us, so the estimate depends on none of
them: a token for four ASCII characters, and for three bytes of anything else (other scripts split finer). Joining texts
never costs more than they cost apart, so a budget that was kept part by part is kept by the whole. Pure.
"""

from typing import Final

# An ASCII character costs three of these, a byte of anything else four.
TWELFTHS: Final = 12


def token_twelfths(text: str) -> int:
    """Twelfths of a token, not rounded: those of a joined text are exactly the sum of its parts'."""
    ascii_bytes = len(text.encode("ascii", "ignore"))
    other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_bytes
    return 3 * ascii_bytes + 4 * other_bytes


def estimate_tokens(text: str) -> int:
    """At least 1 for any text that is not empty; `estimate(a + b) <= estimate(a) + estimate(b)`."""
    return -(-token_twelfths(text) // TWELFTHS)

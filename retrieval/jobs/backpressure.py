"""When to refuse an ingest, and how long to send it away for: as long as the queue needs to make room, as it has been
going lately. Pure: the clock is passed in."""

from collections import deque
from dataclasses import dataclass
from typing import Final

# Long enough to average over large documents, short enough to notice that the model has got slower.
_WINDOW_S: Final = 60.0
# Before anything has been observed, and the bounds of what is asked of a caller: a client that waits longer than a
# minute is one that has given up, and one that waits shorter than a second is one that hammers.
_UNKNOWN_S: Final = 5.0
_RETRY_S: Final = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class Amount:
    documents: int
    payload_bytes: int


class DrainRate:
    """How fast the queue has been emptied."""

    def __init__(self) -> None:
        self._ended: deque[tuple[float, Amount]] = deque()

    def note(self, amount: Amount, *, now: float) -> None:
        self._ended.append((now, amount))
        self._forget(now)

    def retry_after_s(self, excess: Amount, *, now: float) -> float:
        """Until `excess` is expected to have gone; whole seconds, never shorter than the estimate."""
        self._forget(now)
        if not self._ended:
            return _UNKNOWN_S
        # Not of the window: a queue that started ten seconds ago has drained for ten seconds.
        seconds = max(now - self._ended[0][0], 1.0)
        documents = sum(amount.documents for _, amount in self._ended)
        payload_bytes = sum(amount.payload_bytes for _, amount in self._ended)
        needed_s = max(
            excess.documents * seconds / max(documents, 1), excess.payload_bytes * seconds / max(payload_bytes, 1)
        )
        return float(-(-min(max(needed_s, _RETRY_S[0]), _RETRY_S[1]) // 1))

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0][0] < now - _WINDOW_S:
            self._ended.popleft()


def excess_of(waiting: Amount, arriving: Amount, limit: Amount) -> Amount | None:
    """How much has to go before `arriving` fits, or None where it fits. Into an empty queue anything fits: a request
    that is larger than the queue would otherwise never be taken."""
    if waiting.documents == 0:
        return None
    excess = Amount(
        max(0, waiting.documents + arriving.documents - limit.documents),
        max(0, waiting.payload_bytes + arriving.payload_bytes - limit.payload_bytes),
    )
    if not excess.documents and not excess.payload_bytes:
        return None
    # No more can go than waits.
    return Amount(min(excess.documents, waiting.documents), min(excess.payload_bytes, waiting.payload_bytes))


def retry_delay_s(attempts: int, first_s: float) -> float:
    """The wait after the `attempts`-th failure: four times as long each time, up to a minute."""
    return float(min(60.0, first_s * 4 ** (attempts - 1)))

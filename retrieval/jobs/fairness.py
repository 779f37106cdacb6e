"""A bounded amount of something, shared out fairly: whoever holds least gets the next part.

Without it whoever asks first takes everything, and one tenant's ten thousand documents stand before another's one.
No timers and no priorities: a key that comes while others hold much is served as soon as anything is given back.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class _Waiter:
    amount: int
    future: "asyncio.Future[None]" = field(repr=False)


class FairGate:
    def __init__(self, capacity: int, *, share_max: int | None = None) -> None:
        """`share_max` is the most that one key may hold, so that a newcomer finds something free."""
        self._free = capacity
        self._share_max = capacity if share_max is None else share_max
        self._held: Counter[str] = Counter()
        # Keys in the order of their last turn, each with its own waiters in theirs.
        self._waiting: dict[str, deque[_Waiter]] = {}

    async def acquire(self, key: str, amount: int = 1) -> None:
        """To be given back with `release`, with the same arguments."""
        waiter = _Waiter(self._bounded(amount), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(key, deque()).append(waiter)
        self._grant()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if not waiter.future.cancelled():
                self.release(key, amount)  # it was granted in the very moment in which its owner gave up
            elif waiter in self._waiting.get(key, ()):
                self._forget(key, waiter)
                self._grant()
            raise

    def release(self, key: str, amount: int = 1) -> None:
        amount = self._bounded(amount)
        self._free += amount
        self._held[key] -= amount
        if not self._held[key]:
            del self._held[key]
        self._grant()

    def _bounded(self, amount: int) -> int:
        """More than one key may hold counts as all that it may hold: alone it is let through."""
        return max(1, min(amount, self._share_max))

    def _grant(self) -> None:
        while (key := self._next_key()) is not None:
            waiter = self._waiting[key][0]
            if waiter.future.cancelled():  # its owner has not run since
                self._forget(key, waiter)
                continue
            if waiter.amount > self._free:
                return
            self._forget(key, waiter)
            if key in self._waiting:  # to the end of the line: among equals the turn goes round
                self._waiting[key] = self._waiting.pop(key)
            self._free -= waiter.amount
            self._held[key] += waiter.amount
            waiter.future.set_result(None)

    def _next_key(self) -> str | None:
        """Of the keys that may have more, the one that holds least."""
        allowed = (
            key for key, waiters in self._waiting.items() if self._held[key] + waiters[0].amount <= self._share_max
        )
        return min(allowed, key=self._held.__getitem__, default=None)

    def _forget(self, key: str, waiter: _Waiter) -> None:
        waiters = self._waiting[key]
        waiters.remove(waiter)
        if not waiters:
            del self._waiting[key]

"""Recall indexes of the scopes that are in use, caught up with the truth before each use.

Nothing has to be told that something was written: an index asks the history for what it has not seen. So a recall sees
every append that was answered before it began, and a crash or an eviction loses nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from memory.recall.index import ScopeIndex
from memory.truth.history import History
from memory.truth.records import Scope
from shared.threads import run_in

ResultT = TypeVar("ResultT")

_CHANGES_PER_STEP: Final = 2000


@dataclass(slots=True)
class _Slot:
    index: ScopeIndex
    # One search or change at a time: an index of a user's size takes a millisecond.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ScopeIndexes:
    def __init__(self, history: History, *, threads: ThreadPoolExecutor, items_max: int) -> None:
        self._history = history
        self._threads = threads
        self._items_max = items_max
        self._slots: OrderedDict[Scope, _Slot] = OrderedDict()

    async def use(self, scope: Scope, model: str, work: Callable[[ScopeIndex], ResultT]) -> ResultT:
        """Runs `work` in a thread on the scope's index, caught up, with vectors of `model`."""
        slot = self._slots.get(scope)
        if slot is None or slot.index.model != model or slot.index.is_worn:
            slot = self._slots[scope] = _Slot(ScopeIndex(model))
        self._slots.move_to_end(scope)
        async with slot.turn:
            while changes := await self._history.changes(
                scope, model, after=slot.index.sequence, limit=_CHANGES_PER_STEP
            ):
                await run_in(self._threads, slot.index.apply, changes)
            result = await run_in(self._threads, work, slot.index)
        self._evict()
        return result

    def drop(self, tenant: str, *, sessions: frozenset[int], users: frozenset[str], agents: frozenset[str]) -> None:
        """Forgets what is indexed of these, words and all; the next use makes it anew from the truth."""
        for scope in self.scopes:
            named = scope.session in sessions or scope.user_id in users or scope.agent_id in agents
            if scope.tenant == tenant and named:
                del self._slots[scope]

    @property
    def scopes(self) -> list[Scope]:
        return list(self._slots)

    @property
    def items(self) -> int:
        return sum(len(slot.index) for slot in self._slots.values())

    def _evict(self) -> None:
        """The least used go, but never the one just used."""
        items = self.items
        while items > self._items_max and len(self._slots) > 1:
            _, slot = self._slots.popitem(last=False)
            items -= len(slot.index)

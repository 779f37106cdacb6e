"""What the memory service does with facts: who may write what, and what of it an agent reads."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from prometheus_client import CollectorRegistry, Counter

from memory.embeddings import Embeddings
from memory.facts.reading import FactReading
from memory.facts.store import Facts
from memory.facts.writes import NewFact
from memory.settings import Approval
from shared.errors import invalid
from shared.fact_messages import Fact, FactAnswer, FactIn, FactPatch, FactRecord, FactsQuery, FactStatus
from shared.keys import Principal
from shared.paging import Page

CALLER = "caller"


class FactService:
    def __init__(
        self,
        facts: Facts,
        reading: FactReading,
        embeddings: Embeddings,
        *,
        approval: Approval,
        approval_of_tenants: Mapping[str, Approval],
        registry: CollectorRegistry,
    ) -> None:
        self._facts = facts
        self.reading = reading
        self._embeddings = embeddings
        self._approval = approval
        self._approval_of_tenants = approval_of_tenants
        self._written = Counter("diptych_facts", "Facts written.", ["status"], registry=registry)
        # Registered whether or not a model is configured, so that dashboards need no case for its absence.
        self.refused = Counter(
            "diptych_facts_refused", "Facts of a model that were not stored.", ["reason"], registry=registry
        )

    async def put(self, tenant: str, given: FactIn, *, origin: str = CALLER) -> FactAnswer:
        """Returns once the fact is durable. Raises Conflict, InvalidFields."""
        if not given.text.strip():
            raise invalid("$.text", "is only white space; say what is to be known")
        if given.valid_from and given.expires_at and given.expires_at <= given.valid_from:
            raise invalid("$.expires_at", "is not later than valid_from, so the fact would never hold")
        new = NewFact(given=given, origin=origin, status=self._first_status(tenant, origin))
        answer = await self._facts.put(tenant, new)
        self._written.labels(answer.status).inc()
        if answer.status == "unchanged":
            return answer
        self._embeddings.wake()
        similar = await self._facts.similar(tenant, given.user_id, answer.id, given.text)
        return msgspec.structs.replace(answer, similar=[each for each in similar if each != answer.replaced] or None)

    async def page(self, principal: Principal, query: FactsQuery) -> Page[Fact]:
        """What waits for approval may be read for all users of the tenant by who may approve it."""
        if query.user_id is None:
            if query.status != "pending":
                raise invalid(
                    "query.user_id", "is needed: facts are listed for somebody; only status=pending may do without"
                )
            principal.require("memory:approve")
        return await self.reading.page(principal.tenant, query, query.as_of or datetime.now(UTC))

    async def record(self, tenant: str, fact_id: str) -> FactRecord:
        return await self.reading.record(tenant, fact_id)

    async def change(self, principal: Principal, fact_id: str, patch: FactPatch) -> FactRecord:
        """Raises Forbidden where a status is set without the scope for it."""
        tenant = principal.tenant
        if patch.status is not None:
            principal.require("memory:approve")
        if patch.status == "rejected" and patch != FactPatch(status="rejected"):
            raise invalid("$.status", "a fact that is rejected is not changed otherwise")
        if patch.text is not None and not patch.text.strip():
            raise invalid("$.text", "is only white space; delete the fact instead")
        status_of_text = self._first_status(tenant, CALLER)
        changed = await self._facts.change(tenant, fact_id, patch, status_of_text=status_of_text)
        self._embeddings.wake()
        return await self.reading.record(tenant, changed)

    async def is_rejected(self, tenant: str, user_id: str, text: str) -> bool:
        return await self._facts.is_rejected(tenant, user_id, text)

    def _first_status(self, tenant: str, origin: str) -> FactStatus:
        approval = self._approval_of_tenants.get(tenant, self._approval)
        waits = approval == "all" or (approval == "extracted" and origin != CALLER)
        return "pending" if waits else "active"

"""What callers may have forgotten, and what they may know of it: for `MemoryService`, a part of its own."""

from memory.forgetting.audit import Audit, digest_of
from memory.forgetting.forgetting import Forgetting, Order
from memory.forgetting.retention import RetentionJob, Retentions
from memory.forgetting.selection import Selection
from memory.truth.store import Store
from shared.errors import invalid
from shared.forgetting_messages import AuditEntry, AuditQuery, AuditScope, ForgetRequest, TenantRetention
from shared.keys import Principal
from shared.memory_messages import EraseReport, Retention
from shared.paging import Page
from shared.sql_values import stored_time


class Erasing:
    def __init__(
        self, forgetting: Forgetting, audit: Audit, retentions: Retentions, job: RetentionJob, store: Store
    ) -> None:
        self._forgetting = forgetting
        self._audit = audit
        self._retentions = retentions
        self._job = job
        self._store = store

    async def forget(self, principal: Principal, request: ForgetRequest) -> EraseReport:
        """Raises InvalidFields, and NotFound for a session that does not exist or is another user's."""
        order = await self._order(principal, request)
        return await (self._forgetting.dry_run(order) if request.dry_run else self._forgetting.forget(order))

    async def erase_session(self, principal: Principal, session_id: str) -> EraseReport:
        """Raises NotFound."""
        return await self.forget(principal, ForgetRequest(session_id=session_id, dry_run=False))

    async def erase_feedback(self, principal: Principal, key: int) -> EraseReport:
        selection = Selection(tenant=principal.tenant, feedback=(key,))
        return await self._forgetting.forget(
            Order(selection=selection, scope=AuditScope(ids=1), key_id=principal.key_id)
        )

    async def audit_page(self, tenant: str, query: AuditQuery) -> Page[AuditEntry]:
        return await self._audit.page(tenant, query)

    async def retention(self, tenant: str) -> TenantRetention:
        found = await self._retentions.get(tenant)
        return TenantRetention(days_max=found.days_max, turns_max=found.turns_max)

    async def put_retention(self, tenant: str, retention: Retention) -> TenantRetention:
        await self._retentions.put(tenant, retention)
        self.wake()
        return await self.retention(tenant)

    def wake(self) -> None:
        """Tells that a limit of retention has changed."""
        self._job.wake()

    async def _order(self, principal: Principal, request: ForgetRequest) -> Order:
        tenant, user_id, session_id = principal.tenant, request.user_id, request.session_id
        if user_id is None and session_id is None and request.ids is None and request.before is None:
            raise invalid("$.user_id", "give user_id, session_id, ids or before: nothing is forgotten by default")
        if request.ids is not None and session_id is None and request.before is not None:
            raise invalid(
                "$.before", "ids without a session_id are of facts, which are named one by one; leave before out"
            )
        session = None
        if session_id is not None:
            session = (await self._store.session(tenant, session_id, user_id=user_id)).id
        ids = None if request.ids is None else tuple(request.ids)
        return Order(
            selection=Selection(
                tenant=tenant,
                user_id=user_id,
                session=session,
                turn_ids=ids if session is not None else None,
                fact_ids=ids if session is None else None,
                before=stored_time(request.before),
            ),
            scope=AuditScope(
                user=None if user_id is None else digest_of(tenant, "user", user_id),
                session=None if session_id is None else digest_of(tenant, "session", session_id),
                ids=None if ids is None else len(ids),
                before=request.before,
            ),
            key_id=principal.key_id,
        )

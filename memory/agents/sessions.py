"""Sessions as tools reach them: only those of the caller's user. Another's is as missing as one that does not exist."""

from memory.service import MemoryService
from shared.errors import NotFound
from shared.memory_messages import Session, SessionsQuery

# Few enough to be read, and to be all of a user's.
_NAMED_MAX = 8


async def own_session(service: MemoryService, tenant: str, user_id: str, session_id: str) -> Session:
    """Raises NotFound, naming those that there are."""
    try:
        session = await service.session(tenant, session_id)
    except NotFound:
        session = None
    if session is None or session.user_id != user_id:
        raise NotFound(await no_session(service, tenant, user_id, session_id))
    return session


async def refuse_foreign(service: MemoryService, tenant: str, user_id: str, session_id: str) -> None:
    """Before a session is written to that may not exist yet. Raises NotFound for one that exists and is not the user's."""
    try:
        session = await service.session(tenant, session_id)
    except NotFound:
        return
    if session.user_id != user_id:
        raise NotFound(taken(session_id))


def taken(session_id: str) -> str:
    return f"there is no session {session_id!r} of this user, and the name cannot be used; choose another session_id"


async def no_session(service: MemoryService, tenant: str, user_id: str, session_id: str) -> str:
    page = await service.session_page(tenant, SessionsQuery(user_id=user_id, limit=_NAMED_MAX))
    names = ", ".join(repr(each.id) for each in page.items)
    if not names:
        return f"there is no session {session_id!r}; this user has none yet, record_messages begins one"
    return f"there is no session {session_id!r}. Sessions{' such as' if page.next_cursor else ''}: {names}"

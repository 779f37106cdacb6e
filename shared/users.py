"""What a call becomes when its key belongs to a user: kept to that user's own, or refused.

Every route names its rule (`Route.for_user`), and one that names none is refused for such keys, so that a new route cannot
widen what they reach by being forgotten. `tests` walk over the routes of both services.
"""

from typing import Any

from shared.errors import Forbidden
from shared.routes import Call, Route


async def of_the_tenant(_service: Any, call: Call[Any, Any]) -> Call[Any, Any]:
    """What the route reaches is no user's in particular: documents, versions, limits."""
    return call


async def not_for_users(_service: Any, call: Call[Any, Any]) -> Call[Any, Any]:
    """What the route reaches is of several users, and cannot be kept to one. Raises Forbidden."""
    user_id = call.principal.user_id
    raise Forbidden(f"this key belongs to the user {user_id!r}, and this concerns others too; use a key without a user")


async def kept_to_user(route: Route, service: Any, call: Call[Any, Any]) -> Call[Any, Any]:
    """The call as the handler may have it. Raises Forbidden, NotFound."""
    if call.principal.user_id is None:
        return call
    return await (route.for_user or not_for_users)(service, call)

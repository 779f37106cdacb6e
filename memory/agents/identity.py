"""Whose memory a tool reads and writes: said by the key or by configuration, never by a model."""

from typing import Final

import msgspec

from shared.errors import Forbidden, invalid
from shared.mcp.catalogue import Caller
from shared.messages import Id

# Of a server on this machine that nobody needs a key for.
LOCAL_USER: Final = "local"


def user_of(caller: Caller, configured: str | None) -> str:
    """`configured` is the setting mcp_user. Raises Forbidden where nobody is named, InvalidFields for a name that cannot be one."""
    if caller.principal.user_id is not None:
        return caller.principal.user_id
    if caller.named_user is not None:
        return _checked(caller.named_user)
    if configured is not None:
        return configured
    if caller.principal.key_id is None:
        return LOCAL_USER
    raise Forbidden(
        "whose memory is this? Bind the key to a user, send the header Diptych-User from the client's configuration, "
        "or set mcp_user at the server. A tool cannot say it"
    )


def _checked(name: str) -> str:
    try:
        # What was not UTF-8 on the wire has no place in the database either.
        name.encode()
        return msgspec.convert(name, Id)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise invalid("header Diptych-User", "1 to 256 characters of UTF-8, no control characters") from error

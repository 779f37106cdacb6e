"""Words of the protocol, and of ours on top of it, that both ends know."""

from typing import Final

# Whose memory a client's own configuration says it is.
USER_HEADER: Final = "Diptych-User"
RESOURCE_NOT_FOUND: Final = -32002
# From this revision on a resource that is not there is an invalid parameter.
NOT_FOUND_IS_INVALID_SINCE: Final = "2026-07-28"

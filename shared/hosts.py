"""Which names a server answers to. Pure.

A page in a browser can be made to reach a server on the same machine under a foreign name (DNS rebinding), so a server for
agents answers only to its own machine's names and to those that it was told.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from yarl import URL

from shared.settings import is_loopback


def foreign_header(
    host: str | None, origin: str | None, *, hosts: Iterable[str], origins: Iterable[str]
) -> Literal["Host", "Origin"] | None:
    """The header that names somebody else, if one does. `hosts` are names without ports; `origins` as browsers send them.
    A page of this machine may come from any port, and whoever sends no header is no browser."""
    if host is not None and not _is_own(host, hosts):
        return "Host"
    if origin is None or origin in origins or is_loopback(host_of(origin)):
        return None
    return "Origin"


def _is_own(host: str, hosts: Iterable[str]) -> bool:
    name = host_of(f"http://{host}")
    return is_loopback(name) or (name != "" and name in hosts)


@lru_cache(maxsize=64)
def host_of(url: str) -> str:
    """Empty where there is none, as in `Origin: null`."""
    try:
        return URL(url).host or ""
    except ValueError:
        return ""

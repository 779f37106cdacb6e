"""Free ports, for pairs that must not meet another one."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Distinct ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def why_not_free(host: str, port: int) -> str | None:
    """What the system says to listening on `port` of `host`; None when nothing stands against it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the services do: what has just ended is no bar
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
    return None

"""How many exports and imports may go on at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Overloaded


class Transfers:
    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._in_flight = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Raises Overloaded."""
        if self._in_flight >= self._in_flight_max:
            message = f"{self._in_flight} exports and imports are going on (transfers_in_flight_max); try again later"
            raise Overloaded(message, retry_after_s=5.0)
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

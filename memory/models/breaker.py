"""A circuit breaker: a service that keeps failing is not asked for a while, then with one call at a time.

    closed --(failures in a row reach the limit)--> open --(the pause is over)--> trial --success--> closed
                                                     ^------------failure-----------'

Pure: the caller says what time it is. circuitbreaker 2.1 and purgatory 3.0, the async ones with users, let every waiting
call through at the end of a pause and read the clock themselves (purgatory the wall clock, which may jump); pybreaker's
async calls need tornado.
"""


class Breaker:
    """Each call that was admitted ends with `succeeded`, `failed` or `dropped`. Times are seconds of one clock that never
    goes back."""

    def __init__(self, *, failures_max: int, pause_s: float) -> None:
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._failures = 0
        self._open_until = 0.0
        self._on_trial = False

    @property
    def is_open(self) -> bool:
        """Whether the last calls failed and none has succeeded since."""
        return self._failures >= self._failures_max

    def admits(self, now: float) -> bool:
        """Whether a call may be made now. While open it admits one call at a time, once the pause is over."""
        if not self.is_open:
            return True
        if self._on_trial or now < self._open_until:
            return False
        self._on_trial = True
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._on_trial = False

    def failed(self, now: float, *, asked_s: float = 0.0) -> None:
        """`asked_s` is how long the service asked to be left alone; it opens the circuit at once when that is longer than
        the pause."""
        self._on_trial = False
        self._failures = self._failures_max if asked_s > self._pause_s else self._failures + 1
        if self.is_open:
            self._open_until = max(self._open_until, now + max(self._pause_s, asked_s))

    def dropped(self) -> None:
        """The call was given up, which says nothing about the service."""
        self._on_trial = False

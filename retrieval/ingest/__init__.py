"""Documents in: read, cut, embedded and stored, a job at a time."""

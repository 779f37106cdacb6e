"""What both services stand on: the protocol's messages, the wire, HTTP, SQLite, keys, logs, metrics, traces."""

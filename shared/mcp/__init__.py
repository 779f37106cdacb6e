"""Both services as MCP tool servers. A service states what it offers as values (`catalogue`); `server` speaks the protocol
with the official SDK, and `hosting` puts it behind the same door as every other route."""

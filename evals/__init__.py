"""Quality on golden sets, through the clients only, against running services."""

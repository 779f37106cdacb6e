"""Another model for a collection while it is searched and written to."""

"""Work that outlives a request: kept in SQL, bounded, shared out fairly, and heard of."""

"""Collections, documents and chunks in SQL, and what everything that is derived from them follows."""

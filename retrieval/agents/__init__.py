"""The retrieval service as tools for agents, over its own methods."""

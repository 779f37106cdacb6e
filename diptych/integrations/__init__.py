"""Diptych inside the frameworks that agents are built with. Each module needs its framework, an optional dependency."""

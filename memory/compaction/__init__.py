"""Turns folded into spans, and spans into higher ones, with nothing lost."""

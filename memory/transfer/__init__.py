"""Exports and imports of whole memories."""

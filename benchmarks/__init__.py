"""Speed, measured against running services; nothing here is a test."""

"""The memory service: what happened in each session, kept whole and recalled."""

VERSION = "0.1.0"

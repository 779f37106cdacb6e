"""The retrieval service: documents in, hybrid search out."""

VERSION = "0.1.0"

"""Diptych: the context layer for AI agents. The clients for its two services, and what they send and receive."""

from diptych.memory_client import MemoryClient
from shared import errors
from shared.memory_messages import Policy, Retention, SessionSpec, TurnIn
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import Chunking, CollectionSpec, DocumentIn, Fusion, Mmr, Rerank
from shared.vectors import Vector

__version__ = "0.1.0"

__all__ = [
    "Chunking",
    "CollectionSpec",
    "DocumentIn",
    "Fusion",
    "MemoryClient",
    "Mmr",
    "Policy",
    "Rerank",
    "Retention",
    "RetrievalClient",
    "SessionSpec",
    "TurnIn",
    "Vector",
    "errors",
]

"""Settings of the retrieval service. docs/OPERATIONS.md lists them with their reasons."""

from typing import ClassVar

from pydantic import Field

from retrieval.backends import Backend, Precision
from shared.settings import ServiceSettings


class RetrievalSettings(ServiceSettings):
    service: ClassVar[str] = "retrieval"

    port: int = Field(7801, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Embedding model: a name or path for sentence-transformers. The default comes in a package, offline.",
    )
    embedding_backend: Backend = Field(
        "auto",
        description="What computes the model: `onnx`, `openvino` or `torch`. `auto` is onnx where it can, else torch.",
    )
    embedding_precision: Precision = Field(
        "auto", description="`int8` or `fp32`. `auto` is int8 where the processor computes it exactly."
    )
    model_threads: int = Field(0, ge=0, le=256, description="Threads of the model for one batch; 0 is all cores.")
    document_characters_max: int = Field(
        4_000_000, ge=1, description="Longest text of one document, about 2,000 pages. Split longer ones."
    )
    ingest_queue_documents_max: int = Field(
        20_000, ge=1, description="Documents accepted and not yet ingested; beyond it ingest is answered 429."
    )
    ingest_documents_in_flight_max: int = Field(
        16, ge=1, description="Documents of one job worked on at once. Enough to fill the model's batches."
    )
    ingest_jobs_in_flight_max: int = Field(
        4, ge=1, description="Jobs worked on at once, so that a small one does not wait for a large one."
    )
    ingest_wait_timeout_s: float = Field(
        55.0, gt=0, description="How long `wait` waits before it answers 202. Below request_timeout_s."
    )
    jobs_keep_days: float = Field(7.0, gt=0, description="How long ended jobs can be looked up.")
    embed_batch_tokens_max: int = Field(
        512,
        ge=64,
        description="Tokens in one batch of the model. On a CPU larger ones are no faster and delay queries; raise it for a GPU.",
    )
    embed_queue_texts_max: int = Field(
        4096, ge=1, description="Texts waiting for the model; beyond it searches and embeds are answered 429."
    )
    query_cache_entries: int = Field(
        10_000, ge=0, description="Query vectors kept in memory (1.5 kB each with the default model)."
    )
    search_threads: int = Field(4, ge=1, le=64, description="Threads for the index legs: two a query run side by side.")

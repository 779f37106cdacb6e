"""Settings of the retrieval service. docs/OPERATIONS.md lists them with their reasons."""

from typing import ClassVar

from pydantic import Field

from retrieval.models.backends import Backend, Precision
from retrieval.truth.records import VectorStorage
from shared.settings import MIB, Names, ServiceSettings


class RetrievalSettings(ServiceSettings):
    service: ClassVar[str] = "retrieval"

    port: int = Field(7801, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Embedding model: a name or path for sentence-transformers. The default comes in a package, offline.",
    )
    more_models: Names = Field(
        (),
        description="Other models that collections may use or be reindexed to: names or paths, with commas between. Each that is used is loaded.",
    )
    embedding_backend: Backend = Field(
        "auto",
        description="What computes the model: `onnx`, `openvino` or `torch`. `auto` is onnx where it can, else torch.",
    )
    embedding_precision: Precision = Field(
        "auto", description="`int8` or `fp32`. `auto` is int8 where the processor computes it exactly."
    )
    model_threads: int = Field(
        0, ge=0, le=256, description="Cores for the model, with ONNX Runtime a batch on each; 0 is all of them."
    )
    document_characters_max: int = Field(
        4_000_000, ge=1, description="Longest text of one document, about 2,000 pages. Split longer ones."
    )
    content_bytes_max: int = Field(
        32 * MIB,
        ge=1,
        description="Largest file, as `content` or uploaded. It is held in memory, and kept in the database until it is read.",
    )
    upload_bytes_max: int = Field(
        64 * MIB,
        ge=1024,
        description="All files of one upload together. They are held in memory until they are accepted.",
    )
    uploads_in_flight_max: int = Field(
        4,
        ge=1,
        description="Uploads received at once; the next is answered 429. With upload_bytes_max it bounds memory.",
    )
    convert_processes: int = Field(
        2, ge=1, le=64, description="Processes that read PDF and Office files and large texts. They start when needed."
    )
    convert_idle_s: float = Field(
        60.0, gt=0, description="After so long without work these processes end. Starting one takes half a second."
    )
    convert_timeout_s: float = Field(
        120.0,
        gt=0,
        description="Longest time spent on reading one file, then it fails. A page of PDF takes some 10 ms.",
    )
    convert_memory_bytes_max: int = Field(
        1024 * MIB,
        ge=256 * MIB,
        description="Address space of such a process. A file that needs more fails alone. Not enforced on macOS.",
    )
    convert_pages_max: int = Field(
        5000, ge=1, description="Pages or slides of one file. More never fit document_characters_max."
    )
    convert_unzipped_bytes_max: int = Field(
        512 * MIB, ge=MIB, description="Office files are ZIP archives; larger ones unzipped are taken for bombs."
    )
    convert_unzipped_ratio_max: int = Field(
        200, ge=2, description="Beyond 16 MiB, more than so many times the packed size is a bomb. Real ones reach 50."
    )
    ingest_queue_documents_max: int = Field(
        20_000, ge=1, description="Documents accepted and not yet ingested; beyond it ingest is answered 429."
    )
    ingest_queue_bytes_max: int = Field(
        512 * MIB,
        ge=1,
        description="Bytes of documents accepted and not yet ingested, all on disk; beyond it ingest is answered 429.",
    )
    ingest_documents_in_flight_max: int = Field(
        16, ge=1, description="Documents of one job worked on at once. Enough to fill the model's batches."
    )
    ingest_jobs_in_flight_max: int = Field(
        4,
        ge=1,
        description="Full jobs' worth of documents worked on at once, half of it at most for one tenant. Bounds memory.",
    )
    ingest_attempts_max: int = Field(
        5,
        ge=1,
        description="Times that a document is tried before it is given up. More than a poison one needs to be told apart.",
    )
    ingest_retry_s: float = Field(
        1.0,
        gt=0,
        description="Wait before a failed document is tried again, four times as long each time, up to a minute.",
    )
    ingest_lease_s: float = Field(
        300.0,
        gt=0,
        description="A job without any progress for this long is taken up anew. Above the slowest honest document.",
    )
    ingest_dead_bytes_max: int = Field(
        256 * MIB,
        ge=0,
        description="Bytes kept of documents that were given up, to be tried again; beyond it the oldest are dropped.",
    )
    ingest_wait_timeout_s: float = Field(
        55.0, gt=0, description="How long `wait` waits before it answers 202. Below request_timeout_s."
    )
    jobs_keep_days: float = Field(7.0, gt=0, description="How long ended jobs can be looked up.")
    embed_batch_tokens_max: int = Field(
        256,
        ge=64,
        description="Tokens in one batch of the model. On a CPU larger ones are no faster and delay queries; raise it for a GPU.",
    )
    embed_queue_texts_max: int = Field(
        4096, ge=1, description="Texts waiting for the model; beyond it searches and embeds are answered 429."
    )
    query_cache_entries: int = Field(
        10_000, ge=0, description="Query vectors kept in memory (1.5 kB each with the default model)."
    )
    filter_cache_bytes_max: int = Field(
        67_108_864,
        ge=0,
        description="Memory for resolved filters, 8 bytes for each chunk that one keeps: 80 kB for 10,000.",
    )
    rerank_models: Names = Field(
        (),
        description="Cross-encoders that searches may rerank with: names or paths, with commas between. They are slow.",
    )
    rerank_queue_max: int = Field(
        16, ge=1, description="Searches waiting for the reranker; beyond it they are answered 429. Each takes seconds."
    )
    search_threads: int = Field(
        4,
        ge=1,
        le=64,
        description="Threads for changes of the indexes, and for searches that embed, rerank or span many collections.",
    )
    dense_exact_chunks_max: int = Field(
        50_000,
        ge=0,
        description="Chunks of a collection whose vectors are all compared with a query, in 4 ms; beyond it lists are built.",
    )
    vector_storage: VectorStorage = Field(
        "float32",
        description="How vectors are kept in memory; `float16` halves it for a slower scan. A change is taken up at the start.",
    )
    open_collections_max: int = Field(
        256,
        ge=1,
        description="Collections kept open; beyond it the longest unused are closed. Bounds memory and threads.",
    )
    collection_idle_s: float = Field(
        600.0, gt=0, description="Unused for this long, a collection is closed. Opening a small one takes milliseconds."
    )

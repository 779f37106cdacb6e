"""Settings of the memory service. docs/OPERATIONS.md lists them with their reasons."""

from typing import ClassVar

from pydantic import Field

from shared.settings import MIB, ServiceSettings


class MemorySettings(ServiceSettings):
    service: ClassVar[str] = "memory"

    port: int = Field(7802, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    retrieval_url: str = Field(
        "http://127.0.0.1:7801", pattern=r"^https?://", description="Where retrieval is, for vectors and documents."
    )
    embed_timeout_s: float = Field(
        2.0, gt=0, description="How long a recall waits for its query's vector before it answers with words alone."
    )
    documents_timeout_s: float = Field(
        5.0, gt=0, description="How long a context waits for documents before it is assembled without them."
    )
    outage_pause_s: float = Field(
        1.0, ge=0, description="After retrieval failed, how long it is not asked again. Keeps degraded recalls fast."
    )
    vectors_batch_turns: int = Field(64, ge=1, le=1024, description="Turns embedded in one request in the background.")
    turn_characters_max: int = Field(
        1_000_000, ge=1, description="Longest content of one turn. Larger tool output belongs into a document."
    )
    index_items_max: int = Field(
        500_000,
        ge=1000,
        description="Turns whose indexes are kept in memory over all scopes (about 3 kB each); the least used go first.",
    )
    span_source_tokens_max: int = Field(
        4000,
        ge=256,
        description="Tokens of turns that one span stands for: more say less of each, fewer make more spans than anyone reads.",
    )
    span_tokens_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="A span's own tokens as a share of its turns'. Less loses identifiers, more saves little.",
    )
    transfers_in_flight_max: int = Field(
        4,
        ge=1,
        description="Exports and imports at once; the next is answered 429. Each holds a snapshot open, or a file on disk.",
    )
    import_record_bytes_max: int = Field(
        16 * MIB, ge=1024, description="Largest record of an import. One at a time is held in memory."
    )
    import_bytes_max: int = Field(
        8192 * MIB,
        ge=1024,
        description="Largest import. It stands in a file beside the database until it has been checked whole.",
    )
    candidates: int = Field(100, ge=10, le=1000, description="Candidates that each leg of a recall gives to fusion.")

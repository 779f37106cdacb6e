"""What moves between the retrieval service's modules: typed rows, never dicts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.retrieval_messages import Chunking, DocumentIn, Fusion, IngestStatus, Language
from shared.vectors import Float32Array

# How vectors are kept: half precision takes half the room.
VectorStorage = Literal["float32", "float16"]

# A `building` model gets vectors of old chunks one by one and of new ones as they come; a `filled` one has all and waits for
# its index; a `ready` one may take over. One that `failed` or was `cancelled` gets nothing more, and keeps what it has.
BesideStatus = Literal["building", "filled", "ready", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The model that stands beside a collection's own: before a flip the new one, after it the old one."""

    model: str
    status: BesideStatus
    overlap_at_10: float | None

    @property
    def is_whole(self) -> bool:
        """Every chunk has a vector of it, and none may be stored without."""
        return self.status in {"filled", "ready"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRow:
    id: int
    tenant: str
    name: str
    model: str
    chunking: Chunking
    fusion: Fusion
    language: Language
    description: str
    created_at: datetime
    beside: Beside | None = None

    @property
    def whole_models(self) -> tuple[str, ...]:
        """Those that every chunk has a vector of, the serving one first."""
        return (self.model, self.beside.model) if self.beside and self.beside.is_whole else (self.model,)

    @property
    def written_models(self) -> tuple[str, ...]:
        """Those that new chunks get a vector of."""
        if self.beside and (self.beside.is_whole or self.beside.status == "building"):
            return (self.model, self.beside.model)
        return (self.model,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A chunk before it is stored. `context` is what its text continues, a table's header say, and stands earlier in the
    document. `embed_text` is what the model reads: the title and headings, the context, then the text. A `page` tells a
    reader where to look, and a model nothing."""

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None = None
    context: str = ""
    text: str
    embed_text: str
    embed_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDocument:
    """A parsed and chunked document."""

    title: str
    content_type: str
    text: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One document of a job. `accepted` is the job's place in the order of acceptance; `attempt` counts from 1, and what
    an earlier attempt has left over can no longer end the item."""

    accepted: int
    ordinal: int
    collection: CollectionRow
    document: DocumentIn
    document_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Outcome:
    status: IngestStatus
    chunks: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkTexts:
    """What the lexical index needs to know of a chunk. `text` has its context above it."""

    chunk_id: int
    title: str
    headings: str
    text: str


@dataclass(frozen=True, slots=True)
class VectorChanges:
    sequence: int
    added_ids: list[int]
    added_vectors: Float32Array
    removed_ids: list[int]


@dataclass(frozen=True, slots=True)
class TextChanges:
    sequence: int
    added: list[ChunkTexts]
    removed_ids: list[int]

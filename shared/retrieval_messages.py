"""The retrieval service's messages. The contract is in docs/PROTOCOL.md; here are its types."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from shared.forms import UploadedFile
from shared.fusion import ALPHA_DEFAULT, K_DEFAULT, FusionMethod
from shared.messages import Answer, Cursor, FilledText, FilterObject, Id, Metadata, PageQuery, Request, Text, Title
from shared.vectors import Vector, Vectors

# Longer is not a question; the embedding model reads 256 tokens of it anyway.
QUERY_LENGTH_MAX = 8192
# Deeper candidate lists cost time and change no top ten (research: 100 to 200 a leg).
CANDIDATES_MAX = 1000
# One batch is decoded, checked and journaled as a whole.
DOCUMENTS_PER_REQUEST_MAX = 10_000
# A cross-encoder reads a few dozen passages a second on a CPU.
RERANK_DEPTH_MAX = 200
# More in one form are more than one person chose; a folder is sent in several.
FILES_PER_UPLOAD_MAX = 1000

Query = Annotated[str, Meta(min_length=1, max_length=QUERY_LENGTH_MAX, pattern=r"^[^\x00]*$(?!\n)")]
SearchMode = Literal["hybrid", "dense", "lexical"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
# How a filter narrowed the lexical leg: as a clause of the query, or by dropping other hits (until too few were left).
LexicalNarrowing = Literal["off", "none", "clause", "post", "post+clause"]
IngestStatus = Literal["created", "replaced", "unchanged", "failed"]
# ISO 639-1; those that the lexical leg can stem, those that it cuts into pairs of characters, and none of them.
Language = Literal[
    "ar", "da", "de", "el", "en", "es", "fi", "fr", "hu", "it", "ja", "ko", "nl", "no", "pt", "ro", "ru", "sv", "ta", "tr", "zh",
    "none",
]  # fmt: skip
# English stemming keeps every exact match in any other language too: both sides are stemmed alike.
LANGUAGE_DEFAULT: Language = "en"
JobKind = Literal["ingest", "reindex"]
JobEventKind = Literal["progress", "item_failed", "done"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Chunking(Request, frozen=True, kw_only=True, omit_defaults=False):
    """How documents are cut. A chunk never exceeds what the model reads, whatever `max_tokens` says."""

    max_tokens: Annotated[int, Meta(ge=16, le=8192)] = 256
    overlap_tokens: Annotated[int, Meta(ge=0, le=1024)] = 0


class Fusion(Request, frozen=True, kw_only=True, omit_defaults=False):
    """How the legs of a hybrid search become one list. `alpha` is the dense leg's weight, `k` the constant of rrf.

    For `adaptive`, `alpha` is the balance from which each query's own weight starts.
    """

    method: FusionMethod = "adaptive"
    alpha: Annotated[float, Meta(ge=0, le=1)] = ALPHA_DEFAULT
    k: Annotated[int, Meta(ge=1, le=10_000)] = K_DEFAULT


class CollectionSpec(Request, frozen=True, kw_only=True):
    """What can be chosen for a collection. What is left out keeps its value, or gets the default in a new one."""

    model: Id | None = None
    chunking: Chunking | None = None
    fusion: Fusion | None = None
    language: Language | None = None
    description: Annotated[Text, Meta(max_length=2000)] | None = None


class Reindex(Answer, frozen=True, kw_only=True):
    """The model that stands beside the serving one: before a flip the new one, after it the old one. `done` of `total`
    chunks have a vector of it. Once it is `ready`, `flip` makes it serve."""

    model: str
    status: Literal["building", "ready", "failed", "cancelled"]
    done: int
    total: int
    overlap_at_10: float | None = None
    error: str | None = None


class Collection(Answer, frozen=True, kw_only=True):
    name: str
    model: str
    chunking: Chunking
    fusion: Fusion
    language: Language
    description: str
    documents: int
    chunks: int
    sequence: int
    created_at: datetime
    reindex: Reindex | None = None


class ReindexRequest(Request, frozen=True, kw_only=True, omit_defaults=False):
    """`flip` says that the new model serves as soon as it can; without it that waits for a call of its own."""

    model: Id
    flip: bool = True


class CollectionPage(Answer, frozen=True, kw_only=True):
    items: list[Collection]
    next_cursor: str | None = None


class DocumentIn(Request, frozen=True, kw_only=True):
    """One of `text` and `content`. Without an id it gets a new one, so a retry would store it again: send ids.

    With `only_if_new`, a document that is there already stays as it is, and is answered as `unchanged`."""

    id: Id | None = None
    text: Text | None = None
    content: bytes | None = None
    content_type: Annotated[str, Meta(max_length=256)] | None = None
    title: Title | None = None
    uri: Annotated[Text, Meta(max_length=4096)] | None = None
    metadata: Metadata | None = None
    only_if_new: bool = False


class IngestRequest(Request, frozen=True, kw_only=True):
    documents: Annotated[list[DocumentIn], Meta(min_length=1, max_length=DOCUMENTS_PER_REQUEST_MAX)]
    wait: bool = False


class UploadForm(Request, frozen=True, kw_only=True):
    """A form with files. Each file is named by its file name, unless there is one and it is given an `id`."""

    file: Annotated[list[UploadedFile], Meta(min_length=1, max_length=FILES_PER_UPLOAD_MAX)]
    id: Id | None = None
    title: Title | None = None
    metadata: Metadata | None = None
    wait: bool = False


class ItemError(Answer, frozen=True, kw_only=True):
    """A document that failed, after `attempts`. `is_kept` says that it can be tried again (`retry`)."""

    id: str
    message: str
    attempts: int = 0
    is_kept: bool = False


class ReindexJob(Answer, frozen=True, kw_only=True):
    """What a job of kind `reindex` is for, and what came of it."""

    model: str
    flip: bool
    overlap_at_10: float | None = None
    error: str | None = None


class Job(Answer, frozen=True, kw_only=True):
    """`done` counts items that ended: created, replaced, unchanged or failed. `errors` holds the first hundred failures.
    `dead` counts those that failed and are kept, to be tried again; `chunks` those of the documents that ended.

    Of kind `reindex`, `total`, `done` and `chunks` count chunks, and `reindex` says the rest."""

    id: str
    kind: JobKind
    collection: str
    status: JobStatus
    total: int
    done: int
    created: int
    replaced: int
    unchanged: int
    failed: int
    dead: int
    chunks: int
    errors: list[ItemError]
    created_at: datetime
    updated_at: datetime
    reindex: ReindexJob | None = None


class JobEvent(Answer, frozen=True, kw_only=True):
    """What a listener hears. `progress` and `done` bring the job, `done` with its errors; `item_failed` brings the item.

    `chunks_embedded` of `chunks_in_work` belong to documents that are being worked on, which `job.chunks` leaves out.
    """

    kind: JobEventKind
    job: Job | None = None
    item: ItemError | None = None
    chunks_in_work: int = 0
    chunks_embedded: int = 0


class JobPage(Answer, frozen=True, kw_only=True):
    items: list[Job]
    next_cursor: str | None = None


class IngestResult(Answer, frozen=True, kw_only=True):
    id: str
    status: IngestStatus
    chunks: int
    error: str | None = None


class IngestAnswer(Answer, frozen=True, kw_only=True):
    """`results` comes with `wait`. `duplicates` lists ids that stood more than once in the batch: the last one won."""

    job: Job
    results: list[IngestResult] | None = None
    duplicates: list[str] | None = None


class ReindexAnswer(Answer, frozen=True, kw_only=True):
    job: Job


class ChunkInfo(Answer, frozen=True, kw_only=True):
    """`text` is the document's text from `start` to `end`, in characters. `context` is what it continues and is not
    understood without: a table's header row, the line that opens a fenced block."""

    id: int
    text: str
    start: int
    end: int
    headings: list[str]
    page: int | None = None
    context: str | None = None


class DocumentInfo(Answer, frozen=True, kw_only=True):
    id: str
    collection: str
    title: str
    uri: str
    content_type: str
    metadata: dict[str, Any]
    chunks: int
    characters: int
    created_at: datetime
    updated_at: datetime


class Document(DocumentInfo, frozen=True, kw_only=True):
    text: str
    passages: list[ChunkInfo]


class DocumentPage(Answer, frozen=True, kw_only=True):
    items: list[DocumentInfo]
    next_cursor: str | None = None


class DocumentsDelete(Request, frozen=True, kw_only=True):
    """Exactly one of the two."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=DOCUMENTS_PER_REQUEST_MAX)] | None = None
    filter: FilterObject | None = None


class Rerank(Request, frozen=True, kw_only=True, omit_defaults=False):
    """A cross-encoder reads the query with each of the best `depth` chunks, and its scores decide. Without a `model`, the
    server's first one."""

    model: Id | None = None
    depth: Annotated[int, Meta(ge=1, le=RERANK_DEPTH_MAX)] = 50


class Mmr(Request, frozen=True, kw_only=True, omit_defaults=False):
    """Maximal marginal relevance: `diversity` 0 leaves the order as it is, 1 only seeks what is unlike the rest."""

    diversity: Annotated[float, Meta(ge=0, le=1)] = 0.5


class SearchRequest(Request, frozen=True, kw_only=True):
    """One of `query` and `vector`, or both: then the vector serves the dense leg and the query the lexical one.

    Without a collection, all collections of the tenant are searched.
    """

    query: Query | None = None
    vector: Vector | None = None
    collection: Id | None = None
    collections: Annotated[list[Id], Meta(min_length=1, max_length=32)] | None = None
    mode: SearchMode = "hybrid"
    limit: Annotated[int, Meta(ge=1, le=CANDIDATES_MAX)] = 10
    filter: FilterObject | None = None
    fusion: Fusion | None = None
    candidates: Annotated[int, Meta(ge=1, le=CANDIDATES_MAX)] = 100
    rerank: Rerank | None = None
    suppress_duplicates: bool = False
    mmr: Mmr | None = None
    group_by_document: bool = False
    cursor: Cursor | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    explain: bool = False


class LegScores(Answer, frozen=True, kw_only=True):
    """What each leg said of a hit; a leg that did not return it is absent. Ranks start at 1."""

    dense: float | None = None
    dense_rank: int | None = None
    lexical: float | None = None
    lexical_rank: int | None = None
    rerank: float | None = None


class Hit(Answer, frozen=True, kw_only=True):
    """A chunk; with `max_tokens` a passage, which may be several chunks of one section. Then `chunk_id`, `score` and
    `scores` are its best chunk's, and `chunk_ids` names all of its chunks that were found, best first. `is_cut` says that
    the budget cut its text short.

    `duplicates` are chunks that were left out because they say nearly the same, with `suppress_duplicates`."""

    chunk_id: int
    document_id: str
    collection: str
    score: float
    scores: LegScores
    text: str
    title: str
    uri: str
    headings: list[str]
    start: int
    end: int
    metadata: dict[str, Any]
    page: int | None = None
    context: str | None = None
    chunk_ids: list[int] | None = None
    is_cut: bool = False
    duplicates: list[int] | None = None


class Stages(Answer, frozen=True, kw_only=True):
    """Milliseconds spent in each stage. The legs run side by side, so they do not add up to the total."""

    resolve: float
    filter: float
    embed: float
    dense: float
    lexical: float
    fuse: float
    rerank: float
    fetch: float


class FilterPlan(Answer, frozen=True, kw_only=True):
    """`matched` counts chunks; with none of them, no leg is asked. `cached` filters were resolved by an earlier search."""

    matched: int
    cached: bool
    took_ms: float
    lexical: LexicalNarrowing


class CollectionPlan(Answer, frozen=True, kw_only=True):
    collection: str
    model: str
    dense: Literal["exact", "exact_subset", "approximate", "approximate_filtered", "off"]
    lexical: Literal["bm25", "off"]
    chunks: int
    sequence: int
    filter: FilterPlan | None = None


class Plan(Answer, frozen=True, kw_only=True):
    """`dense_weight` is what adaptive fusion gave the dense leg for this query; the lexical leg had the rest of 1."""

    mode: SearchMode
    fusion: Fusion
    dense_weight: float | None = None
    candidates: int
    model: str
    collections: list[CollectionPlan]
    stages_ms: Stages


class SearchAnswer(Answer, frozen=True, kw_only=True):
    """`sequence` is the last change that the indexes of every searched collection had taken in."""

    hits: list[Hit]
    next_cursor: str | None = None
    sequence: int
    took_ms: float
    plan: Plan | None = None


class EmbedRequest(Request, frozen=True, kw_only=True):
    texts: Annotated[list[FilledText], Meta(min_length=1, max_length=1024)]
    kind: Literal["query", "document"]
    collection: Id | None = None
    model: Id | None = None


class EmbedAnswer(Answer, frozen=True, kw_only=True):
    """`vectors` has shape (texts, dimensions), float32, unit length."""

    model: str
    vectors: Vectors


class DocumentsQuery(PageQuery, frozen=True, kw_only=True):
    """`filter` is a filter as JSON text; search and delete take it as an object."""

    filter: Text | None = None


class Rebuilt(Answer, frozen=True, kw_only=True):
    """What the new indexes hold."""

    collection: str
    chunks: int
    sequence: int


class JobsQuery(PageQuery, frozen=True, kw_only=True):
    status: JobStatus | None = None

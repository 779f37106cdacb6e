"""What agents send to the retrieval service's tools, and what they are told. Descriptions stand in every prompt, so they
are as short as they can be understood."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from shared.messages import ID_PATTERN, TEXT_PATTERN, Answer, Request

TOKENS_MIN = 200
TOKENS_MAX = 20_000
# An address of a document with a long id, each of whose characters is percent-encoded.
_NAME_LENGTH_MAX = 4096

ToolMode = Literal["hybrid", "semantic", "keyword"]
DocumentName = Annotated[str, Meta(min_length=1, max_length=_NAME_LENGTH_MAX, pattern=ID_PATTERN)]
CollectionName = Annotated[str, Meta(min_length=1, max_length=256, pattern=ID_PATTERN)]
Question = Annotated[str, Meta(min_length=1, max_length=2000, pattern=TEXT_PATTERN)]


class SearchArguments(Request, frozen=True, kw_only=True):
    query: Annotated[Question, Meta(description="What to find, in plain words")]
    collection: Annotated[CollectionName, Meta(description="Search only this one; default all")] | None = None
    limit: Annotated[int, Meta(ge=1, le=50, description="At most so many")] = 8
    mode: Annotated[ToolMode, Meta(description="keyword: the words themselves; semantic: the meaning")] = "hybrid"
    filter: (
        Annotated[
            dict[str, Any],
            Meta(
                description="On metadata: {field: value} or {field: {op: value}}, op one of eq, ne, in, gt, gte, lt, lte, "
                "contains. list_collections names the fields"
            ),
        ]
        | None
    ) = None
    detail: Annotated[Literal["concise", "detailed"], Meta(description="detailed adds metadata")] = "concise"
    max_tokens: Annotated[int, Meta(ge=TOKENS_MIN, le=TOKENS_MAX, description="Size of the answer")] = 4000
    cursor: (
        Annotated[str, Meta(max_length=512, description="next_cursor of the last answer; same query and filter")] | None
    ) = None


class FoundHit(Answer, frozen=True, kw_only=True):
    id: str
    title: str
    text: str
    score: float
    uri: str | None = None
    metadata: dict[str, Any] | None = None


class SearchFound(Answer, frozen=True, kw_only=True):
    hits: list[FoundHit]
    more: bool
    next_cursor: str | None = None
    hint: str | None = None


class GetArguments(Request, frozen=True, kw_only=True):
    ids: Annotated[
        list[DocumentName],
        Meta(min_length=1, max_length=10, description="Ids of hits or documents, or doc:// addresses"),
    ]
    start: Annotated[int, Meta(ge=0, description="Character to read on from: next_start")] = 0
    max_tokens: Annotated[int, Meta(ge=500, le=TOKENS_MAX, description="Size of the answer")] = 8000


class ReadDocument(Answer, frozen=True, kw_only=True):
    """`text` is the document's from `start` to `end` of `length`, in characters."""

    id: str
    title: str
    text: str
    uri: str | None = None
    start: int
    end: int
    length: int
    next_start: int | None = None


class DocumentsRead(Answer, frozen=True, kw_only=True):
    documents: list[ReadDocument]
    missing: list[str]
    hint: str | None = None


class ListArguments(Request, frozen=True, kw_only=True):
    pass


class ListedCollection(Answer, frozen=True, kw_only=True):
    name: str
    documents: int
    description: str
    filter_fields: dict[str, str]


class CollectionsListed(Answer, frozen=True, kw_only=True):
    collections: list[ListedCollection]
    hint: str | None = None


class NewDocument(Request, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=256, pattern=ID_PATTERN)] | None = None
    title: Annotated[str, Meta(max_length=1024, pattern=TEXT_PATTERN)] | None = None
    text: Annotated[str, Meta(min_length=1, pattern=TEXT_PATTERN)]
    metadata: dict[str, Any] | None = None


class AddArguments(Request, frozen=True, kw_only=True):
    documents: Annotated[
        list[NewDocument],
        Meta(min_length=1, max_length=50, description="Without an id, one is made from title and text"),
    ]
    collection: (
        Annotated[CollectionName, Meta(description="Made if new; default the only one there is, else 'documents'")]
        | None
    ) = None


class FailedDocument(Answer, frozen=True, kw_only=True):
    id: str
    error: str


class DocumentsAdded(Answer, frozen=True, kw_only=True):
    """`searchable` is false where indexing takes longer than an answer may: then it goes on, and `hint` says so."""

    collection: str
    added: list[str]
    skipped: list[str]
    searchable: bool
    failed: list[FailedDocument] | None = None
    hint: str | None = None


class DeleteArguments(Request, frozen=True, kw_only=True):
    ids: Annotated[list[DocumentName], Meta(min_length=1, max_length=100, description="Ids of whole documents")]
    collection: Annotated[CollectionName, Meta(description="Default: wherever they are")] | None = None


class DocumentsDeleted(Answer, frozen=True, kw_only=True):
    deleted: list[str]
    missing: list[str]
    hint: str | None = None


class OpenSearchArguments(Request, frozen=True, kw_only=True):
    query: Annotated[Question, Meta(description="What to find, in plain words")]


class OpenHit(Answer, frozen=True, kw_only=True):
    id: str
    title: str
    url: str


class OpenFound(Answer, frozen=True, kw_only=True):
    results: list[OpenHit]


class OpenFetchArguments(Request, frozen=True, kw_only=True):
    id: Annotated[DocumentName, Meta(description="The id of a search result")]


class OpenDocument(Answer, frozen=True, kw_only=True):
    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, Any]

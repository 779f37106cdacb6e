"""What the retrieval service does, once for every way in: HTTP and MCP. Each method takes the caller's principal's
tenant and answers a message, or raises a ServiceError."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from retrieval.conversion.accepting import check_content_type
from retrieval.feedback import Feedbacks
from retrieval.indexes.projections import Projections
from retrieval.ingest.runner import JobRunner
from retrieval.ingest.uploading import documents_of
from retrieval.jobs.feed import JobFeed
from retrieval.jobs.jobs import Jobs
from retrieval.models.models import Models
from retrieval.reindexing.reindexing import Reindexer
from retrieval.searching.search import Searcher
from retrieval.settings import RetrievalSettings
from retrieval.truth.document_writes import last_accepted
from retrieval.truth.filtering import find_documents
from retrieval.truth.history import History
from retrieval.truth.lookups import Fields, find_fields, find_holders, find_ids, find_names
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import FieldError, InvalidFields, NotFound, invalid
from shared.filters import Filter, parse_filter
from shared.messages import CheckReport, Deleted, Finding
from shared.metadata import check_metadata
from shared.paging import Page
from shared.retrieval_messages import (
    TERMINAL,
    Collection,
    CollectionSpec,
    Document,
    DocumentIn,
    DocumentInfo,
    DocumentsDelete,
    DocumentsQuery,
    EmbedAnswer,
    EmbedRequest,
    IngestAnswer,
    IngestRequest,
    Job,
    JobStatus,
    Rebuilt,
    ReindexAnswer,
    ReindexRequest,
    SearchAnswer,
    SearchRequest,
    UploadForm,
)
from shared.routes import Event
from shared.snapshots import Snapshots
from shared.vectors import Vectors

# One transaction each, so that other writes are not kept waiting.
_DELETED_TOGETHER_MAX: Final = 500

log = structlog.get_logger()

_EVENT_ID_DIGITS_MAX = 18


class RetrievalService:
    def __init__(
        self,
        settings: RetrievalSettings,
        *,
        store: Store,
        snapshots: Snapshots,
        history: History,
        jobs: Jobs,
        projections: Projections,
        models: Models,
        reindexer: Reindexer,
        searcher: Searcher,
        runner: JobRunner,
        feed: JobFeed,
        feedback: Feedbacks,
    ) -> None:
        self.settings = settings
        self.store = store
        self.snapshots = snapshots
        self.history = history
        self.jobs = jobs
        self.projections = projections
        self.models = models
        self._reindexer = reindexer
        self._searcher = searcher
        self._runner = runner
        self._feed = feed
        self.feedback = feedback

    async def put_collection(self, tenant: str, name: str, spec: CollectionSpec) -> Collection:
        if spec.model is not None:
            self.models.check(spec.model, "$.model")
        if spec.chunking and spec.chunking.overlap_tokens >= spec.chunking.max_tokens:
            raise invalid("$.chunking.overlap_tokens", "must be smaller than max_tokens")
        row = await self.store.put_collection(tenant, name, spec, model=self.settings.model)
        await self.projections.renew(row)
        return await self.store.describe(row)

    async def collection(self, tenant: str, name: str) -> Collection:
        return await self.store.describe(await self.store.collection(tenant, name))

    async def collection_page(self, tenant: str, cursor: str | None, limit: int) -> Page[Collection]:
        return await self.store.collection_page(tenant, cursor=cursor, limit=limit)

    async def delete_collection(self, tenant: str, name: str) -> Deleted:
        """Answers how many documents went with it."""
        row = await self.store.collection(tenant, name)
        documents = (await self.store.describe(row)).documents
        await self.store.delete_collection(row)
        await self.projections.drop(row)
        return Deleted(deleted=documents)

    async def ingest(self, tenant: str, name: str, request: IngestRequest) -> IngestAnswer:
        """Accepts all of a batch or nothing of it."""
        return await self._take(tenant, name, request.documents, wait=request.wait, place="$.documents")

    async def upload(self, tenant: str, name: str, form: UploadForm) -> IngestAnswer:
        """As `ingest`, with files of a form."""
        return await self._take(tenant, name, documents_of(form), wait=form.wait, place="$.file")

    async def _take(
        self, tenant: str, name: str, given: Sequence[DocumentIn], *, wait: bool, place: str
    ) -> IngestAnswer:
        documents, duplicates = self._accepted(given, place)
        job_id = await self._runner.submit(tenant, name, documents, model=self.settings.model)
        if wait:
            return await self.ingested(tenant, job_id, duplicates)
        return IngestAnswer(job=await self.jobs.job(tenant, job_id), duplicates=duplicates or None)

    async def ingested(self, tenant: str, job_id: str, duplicates: Sequence[str] = ()) -> IngestAnswer:
        """Waits for a job, as `wait` does. Without results where it takes longer."""
        await self._runner.wait(job_id, self.settings.ingest_wait_timeout_s)
        job = await self.jobs.job(tenant, job_id)
        return IngestAnswer(
            job=job,
            results=await self.jobs.results(tenant, job_id) if job.status in TERMINAL else None,
            duplicates=list(duplicates) or None,
        )

    async def document(self, tenant: str, name: str, document_id: str) -> Document:
        return await self.store.document(await self.store.collection(tenant, name), document_id)

    async def holders(self, tenant: str, document_ids: Sequence[str]) -> dict[str, list[str]]:
        """The collections that have a document of this id, for each id that is in any."""
        return await self.store.database.read(lambda connection: find_holders(connection, tenant, document_ids))

    async def collection_names(self, tenant: str, *, prefix: str = "", limit: int) -> list[str]:
        """The first ones that begin so, in order."""
        return await self.store.database.read(
            lambda connection: find_names(connection, tenant, prefix=prefix, limit=limit)
        )

    async def document_ids(self, tenant: str, name: str, *, prefix: str = "", limit: int) -> list[str]:
        """As `collection_names`, of a collection's documents. Raises NotFound."""
        row = await self.store.collection(tenant, name)
        return await self.store.database.read(
            lambda connection: find_ids(connection, row.id, prefix=prefix, limit=limit)
        )

    async def fields(
        self, tenant: str, names: Sequence[str] | None, *, only: Sequence[str] | None = None, fields_max: int = 100
    ) -> list[Fields]:
        """What the metadata of these collections' documents has, or of all collections': `only` these fields, or the first
        ones. Raises NotFound."""
        rows = [(row.id, row.name) for row in await self.store.collections(tenant, names)]
        return await self.store.database.read(
            lambda connection: find_fields(connection, rows, only=only, fields_max=fields_max)
        )

    async def document_page(self, tenant: str, name: str, query: DocumentsQuery) -> Page[DocumentInfo]:
        wanted = None if query.filter is None else _filter_of(query.filter)
        row = await self.store.collection(tenant, name)
        return await self.store.document_page(row, wanted, cursor=query.cursor, limit=query.limit)

    async def delete_document(self, tenant: str, name: str, document_id: str) -> Deleted:
        deleted = await self.delete_documents(tenant, name, DocumentsDelete(ids=[document_id]))
        if deleted.deleted == 0:
            raise NotFound(f"there is no document {document_id!r} in collection {name!r}")
        return deleted

    async def delete_documents(self, tenant: str, name: str, request: DocumentsDelete) -> Deleted:
        """Returns when they can no longer be found. Raises InvalidFields for a filter that everything matches."""
        if (request.ids is None) == (request.filter is None):
            raise invalid("$.ids", "give exactly one of ids and filter")
        row = await self.store.collection(tenant, name)
        if request.ids is not None:
            deleted = await self.store.delete_documents(row, list(dict.fromkeys(request.ids)))
        else:
            deleted = await self._delete_matching(row, request.filter or {})
        await self.projections.reach(row)
        return Deleted(deleted=deleted)

    async def _delete_matching(self, row: CollectionRow, conditions: dict[str, Any]) -> int:
        if not conditions:
            raise invalid("$.filter", "would delete every document; delete the collection instead")
        wanted = parse_filter(conditions)
        matching, accepted = await self.store.database.read(
            lambda connection: (find_documents(connection, row.id, wanted), last_accepted(connection))
        )
        deleted = 0
        for start in range(0, len(matching), _DELETED_TOGETHER_MAX):
            some = matching[start : start + _DELETED_TOGETHER_MAX]
            deleted += await self.store.delete_versions(row, some, accepted_until=accepted)
        return deleted

    async def job(self, tenant: str, job_id: str) -> Job:
        return await self.jobs.job(tenant, job_id)

    async def job_page(self, tenant: str, status: JobStatus | None, cursor: str | None, limit: int) -> Page[Job]:
        return await self.jobs.page(tenant, status=status, cursor=cursor, limit=limit)

    async def cancel_job(self, tenant: str, job_id: str) -> Job:
        job = await self._runner.cancel(tenant, job_id)
        if job.status == "cancelled" and job.reindex is not None:
            with suppress(NotFound):
                await self._reindexer.tidy(await self.store.collection(tenant, job.collection), job.reindex.model)
        return job

    async def retry_job(self, tenant: str, job_id: str) -> Job:
        return await self._runner.retry(tenant, job_id)

    async def job_events(self, tenant: str, job_id: str, last_event_id: str | None) -> AsyncIterator[Event]:
        """Raises NotFound before the first event, and InvalidFields for an id that no event had."""
        after = _place_of(last_event_id)
        await self.jobs.job(tenant, job_id)
        return self._feed.events(tenant, job_id, after=after)

    async def search(self, tenant: str, request: SearchRequest) -> SearchAnswer:
        return await self._searcher.search(tenant, request)

    async def embed(self, tenant: str, request: EmbedRequest) -> EmbedAnswer:
        model = self.settings.model if request.model is None else request.model
        self.models.check(model, "$.model")
        if request.collection is not None:
            row = await self.store.collection(tenant, request.collection)
            if request.model is not None and request.model != row.model:
                raise invalid(
                    "$.model", f"collection {row.name!r} is served by {row.model!r}; leave one of the two out"
                )
            model = row.model
        vectors = await self.models.of(model).embed(request.texts, request.kind)
        return EmbedAnswer(model=model, vectors=Vectors(vectors))

    async def check(self) -> CheckReport:
        """Of all tenants, so only for who may administer the server."""
        findings = [Finding(where="sqlite", problem=problem) for problem in await self.history.problems()]
        judged, wrong = await self.feedback.problems()
        findings += [Finding(where="sqlite", problem=problem) for problem in wrong]
        rows = await self.store.every_collection()
        chunks = 0
        for row in rows:
            try:
                compared, found = await self.projections.check(row)
            except NotFound:
                continue  # deleted since the list was read
            chunks += compared
            findings += found
        checked = {"collections": len(rows), "chunks": chunks, "feedback": judged}
        return CheckReport(clean=not findings, checked=checked, findings=findings)

    async def rebuild(self, tenant: str, name: str) -> Rebuilt:
        """Makes the collection's indexes anew from the truth, while searches go on in the old ones."""
        row = await self.store.collection(tenant, name)
        indexes = await self.projections.rebuild(row)
        return Rebuilt(collection=name, chunks=len(indexes.dense), sequence=indexes.sequence)

    async def reindex(self, tenant: str, name: str, request: ReindexRequest) -> ReindexAnswer:
        """Builds another model beside the serving one."""
        row = await self.store.collection(tenant, name)
        job = await self._reindexer.accept(row, request.model, flip=request.flip)
        self._runner.launch(job)
        return ReindexAnswer(job=await self.jobs.job(tenant, job.id))

    async def flip(self, tenant: str, name: str) -> Collection:
        """Changes the serving model for the one beside it; a second time changes it back."""
        return await self.store.describe(await self._reindexer.flip(await self.store.collection(tenant, name)))

    async def discard_reindex(self, tenant: str, name: str) -> Collection:
        """Lets go of the model beside the serving one."""
        row = await self.store.collection(tenant, name)
        return await self.store.describe(await self._reindexer.discard(row, partial(self._runner.cancel, tenant)))

    def waiting_for(self) -> str:
        """What the service is doing before it is ready."""
        return "the indexes are catching up" if self.models.default.is_loaded else "the model is loading"

    def _accepted(self, documents: Sequence[DocumentIn], place: str) -> tuple[list[tuple[str, DocumentIn]], list[str]]:
        """Documents by id, the last of an id winning, and the ids that stood more than once. Raises InvalidFields for all
        documents that cannot be taken, together."""
        errors: list[FieldError] = []
        by_id: dict[str, DocumentIn] = {}
        duplicates: list[str] = []
        for index, document in enumerate(documents):
            errors += self._problems(document, f"{place}[{index}]")
            document_id = document.id or uuid.uuid4().hex
            if document_id in by_id:
                del by_id[document_id]
                duplicates.append(document_id)
            by_id[document_id] = document
        if errors:
            raise InvalidFields(f"{errors[0].path}: {errors[0].message}", errors=errors)
        return list(by_id.items()), list(dict.fromkeys(duplicates))

    def _problems(self, document: DocumentIn, path: str) -> list[FieldError]:
        if (document.text is None) == (document.content is None):
            return [FieldError(f"{path}.text", "give exactly one of text and content")]
        limit = self.settings.document_characters_max
        if document.text is not None and len(document.text) > limit:
            message = (
                f"{len(document.text)} characters; at most {limit} are accepted (document_characters_max): split it"
            )
            return [FieldError(f"{path}.text", message)]
        limit = self.settings.content_bytes_max
        if document.content is not None and len(document.content) > limit:
            message = f"{len(document.content)} bytes; at most {limit} are accepted (content_bytes_max): split the file"
            return [FieldError(f"{path}.content", message)]
        try:
            check_metadata(document.metadata or {}, path=f"{path}.metadata", bytes_max=self.settings.metadata_bytes_max)
            check_content_type(document.content_type, has_text=document.text is not None, path=path)
        except InvalidFields as error:
            return list(error.errors)
        return []


def _place_of(event_id: str | None) -> int:
    """Where to go on after an event."""
    if event_id is None:
        return 0
    if not event_id.isdecimal() or len(event_id) > _EVENT_ID_DIGITS_MAX:
        raise invalid("header.Last-Event-ID", "is not the id of an event of this service")
    return int(event_id)


def _filter_of(text: str) -> Filter:
    """A filter from a query string."""
    try:
        conditions = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid("query.filter", "must be one JSON object") from error
    return parse_filter(conditions, path="query.filter")

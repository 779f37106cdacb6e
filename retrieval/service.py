"""What the retrieval service does, once for every way in: HTTP now, MCP later. Each method takes the caller's principal's
tenant and answers a message, or raises a ServiceError."""

import uuid
from collections.abc import Sequence

import structlog

from retrieval.batcher import Batcher
from retrieval.conversion.accepting import check_content_type
from retrieval.history import History
from retrieval.ingest import Ingest
from retrieval.jobs import Jobs
from retrieval.projections import Projections
from retrieval.search import Searcher
from retrieval.settings import RetrievalSettings
from retrieval.store import Store
from retrieval.uploading import documents_of
from shared.errors import FieldError, InvalidFields, NotFound, invalid
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
    EmbedAnswer,
    EmbedRequest,
    IngestAnswer,
    IngestRequest,
    Job,
    JobStatus,
    SearchAnswer,
    SearchRequest,
    UploadForm,
)
from shared.vectors import Vectors

log = structlog.get_logger()


class RetrievalService:
    def __init__(
        self,
        settings: RetrievalSettings,
        *,
        store: Store,
        history: History,
        jobs: Jobs,
        projections: Projections,
        batcher: Batcher,
        searcher: Searcher,
        ingest: Ingest,
    ) -> None:
        self.settings = settings
        self.store = store
        self.history = history
        self.jobs = jobs
        self.projections = projections
        self.batcher = batcher
        self._searcher = searcher
        self._ingest = ingest

    async def put_collection(self, tenant: str, name: str, spec: CollectionSpec) -> Collection:
        if spec.model is not None:
            self._check_model(spec.model, "$.model")
        if spec.chunking and spec.chunking.overlap_tokens >= spec.chunking.max_tokens:
            raise invalid("$.chunking.overlap_tokens", "must be smaller than max_tokens")
        row = await self.store.put_collection(tenant, name, spec, model=self.settings.model)
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
        job_id = await self._ingest.submit(tenant, name, documents, model=self.settings.model)
        if wait:
            await self._ingest.wait(job_id, self.settings.ingest_wait_timeout_s)
        job = await self.jobs.job(tenant, job_id)
        is_done = wait and job.status in TERMINAL
        return IngestAnswer(
            job=job,
            results=await self.jobs.results(tenant, job_id) if is_done else None,
            duplicates=duplicates or None,
        )

    async def document(self, tenant: str, name: str, document_id: str) -> Document:
        return await self.store.document(await self.store.collection(tenant, name), document_id)

    async def document_page(self, tenant: str, name: str, cursor: str | None, limit: int) -> Page[DocumentInfo]:
        return await self.store.document_page(await self.store.collection(tenant, name), cursor=cursor, limit=limit)

    async def delete_document(self, tenant: str, name: str, document_id: str) -> Deleted:
        deleted = await self.delete_documents(tenant, name, [document_id])
        if deleted.deleted == 0:
            raise NotFound(f"there is no document {document_id!r} in collection {name!r}")
        return deleted

    async def delete_documents(self, tenant: str, name: str, ids: Sequence[str]) -> Deleted:
        """Returns when they can no longer be found."""
        row = await self.store.collection(tenant, name)
        deleted = await self.store.delete_documents(row, list(dict.fromkeys(ids)))
        await self.projections.reach(row)
        return Deleted(deleted=deleted)

    async def job(self, tenant: str, job_id: str) -> Job:
        return await self.jobs.job(tenant, job_id)

    async def job_page(self, tenant: str, status: JobStatus | None, cursor: str | None, limit: int) -> Page[Job]:
        return await self.jobs.page(tenant, status=status, cursor=cursor, limit=limit)

    async def cancel_job(self, tenant: str, job_id: str) -> Job:
        return await self.jobs.cancel(tenant, job_id)

    async def search(self, tenant: str, request: SearchRequest) -> SearchAnswer:
        return await self._searcher.search(tenant, request)

    async def embed(self, tenant: str, request: EmbedRequest) -> EmbedAnswer:
        if request.model is not None:
            self._check_model(request.model, "$.model")
        if request.collection is not None:
            await self.store.collection(tenant, request.collection)
        vectors = await self.batcher.embed(request.texts, request.kind)
        return EmbedAnswer(model=self.settings.model, vectors=Vectors(vectors))

    async def check(self) -> CheckReport:
        """Of all tenants, so only for who may administer the server."""
        findings = [Finding(where="sqlite", problem=problem) for problem in await self.history.problems()]
        rows = await self.store.every_collection()
        chunks = 0
        for row in rows:
            try:
                compared, found = await self.projections.check(row)
            except NotFound:
                continue  # deleted since the list was read
            chunks += compared
            findings += found
        return CheckReport(clean=not findings, checked={"collections": len(rows), "chunks": chunks}, findings=findings)

    def waiting_for(self) -> str:
        """What the service is doing before it is ready."""
        return "the indexes are catching up" if self.batcher.is_loaded else "the model is loading"

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

    def _check_model(self, model: str, path: str) -> None:
        if model != self.settings.model:
            raise invalid(path, f"this server embeds with {self.settings.model!r}, not with {model!r}")

"""The retrieval service's client. It stands in `shared` because memory uses it too; users import it from `diptych`."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec

from shared.client import ServiceClient, build, quoted
from shared.content_types import UNKNOWN
from shared.feedback_messages import (
    DocumentJudgment,
    FeedbackAnswer,
    SearchFeedbackIn,
    SearchFeedbackPage,
    SearchFeedbackQuery,
)
from shared.messages import Deleted, PageQuery
from shared.retrieval_messages import (
    Collection,
    CollectionPage,
    CollectionSpec,
    Document,
    DocumentIn,
    DocumentPage,
    DocumentsDelete,
    DocumentsQuery,
    EmbedAnswer,
    EmbedRequest,
    Fusion,
    IngestAnswer,
    IngestRequest,
    Job,
    JobEvent,
    JobPage,
    JobsQuery,
    JobStatus,
    Mmr,
    Rebuilt,
    ReindexAnswer,
    ReindexRequest,
    Rerank,
    SearchAnswer,
    SearchMode,
    SearchRequest,
)
from shared.vectors import Vector

# Longer than the server waits before it answers 202 (ingest_wait_timeout_s), so that its answer is always heard.
_WAIT_TIMEOUT_S = 90.0
# About three times what a million chunks take.
_REBUILD_TIMEOUT_S = 3600.0
URL_DEFAULT = "http://127.0.0.1:7801"


class RetrievalClient(ServiceClient):
    """Every method raises ServiceError (shared/errors.py): NotFound, InvalidFields, Unavailable and so on."""

    def __init__(self, url: str = URL_DEFAULT, **options: Any) -> None:
        super().__init__(url, **options)

    async def put_collection(self, name: str, spec: CollectionSpec | None = None) -> Collection:
        return await self._call("PUT", _collection(name), Collection, body=spec or CollectionSpec())

    async def collection(self, name: str) -> Collection:
        return await self._call("GET", _collection(name), Collection)

    async def collections(self, *, cursor: str | None = None, limit: int = 100) -> CollectionPage:
        return await self._call("GET", "/v1/collections", CollectionPage, query=PageQuery(cursor=cursor, limit=limit))

    async def delete_collection(self, name: str) -> Deleted:
        return await self._call("DELETE", _collection(name), Deleted)

    async def ingest(
        self,
        collection: str,
        documents: Iterable[DocumentIn | Mapping[str, Any]],
        *,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> IngestAnswer:
        """With `wait`, returns when the documents are searchable. Documents without an id get one here, so that a retry
        stores nothing twice."""
        request = IngestRequest(documents=[_with_id(document) for document in documents], wait=wait)
        path = f"{_collection(collection)}/documents"
        if wait and timeout_s is None:
            timeout_s = max(self.timeout_s, _WAIT_TIMEOUT_S)
        return await self._call("POST", path, IngestAnswer, body=request, timeout_s=timeout_s)

    async def upload(
        self,
        collection: str,
        files: Iterable[Path | tuple[str, bytes]],
        *,
        document_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> IngestAnswer:
        """Files of any kind that can be read, as paths or as (name, bytes). Each becomes the document of its file name;
        a single one may be named by `document_id`. Raises OSError for a path that cannot be read."""
        contents = [
            (file.name, await asyncio.to_thread(file.read_bytes)) if isinstance(file, Path) else file for file in files
        ]
        fields = {
            "id": document_id,
            "title": title,
            "metadata": json.dumps(metadata) if metadata is not None else None,
            "wait": json.dumps(wait),
        }

        def form() -> aiohttp.FormData:
            # Names as they are: a file name is an id here, and must not come out percent-encoded.
            made = aiohttp.FormData(quote_fields=False)
            for name, value in fields.items():
                if value is not None:
                    made.add_field(name, value)
            for name, content in contents:
                made.add_field("file", BytesIO(content), filename=name, content_type=UNKNOWN)
            return made

        if wait and timeout_s is None:
            timeout_s = max(self.timeout_s, _WAIT_TIMEOUT_S)
        return await self._call(
            "POST", f"{_collection(collection)}/files", IngestAnswer, body=form, timeout_s=timeout_s
        )

    async def documents(
        self,
        collection: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's word
        cursor: str | None = None,
        limit: int = 100,
    ) -> DocumentPage:
        text = None if filter is None else msgspec.json.encode(filter).decode()
        query = DocumentsQuery(filter=text, cursor=cursor, limit=limit)
        return await self._call("GET", f"{_collection(collection)}/documents", DocumentPage, query=query)

    async def document(self, collection: str, document_id: str) -> Document:
        return await self._call("GET", f"{_collection(collection)}/documents/{quoted(document_id)}", Document)

    async def delete_document(self, collection: str, document_id: str) -> Deleted:
        return await self._call("DELETE", f"{_collection(collection)}/documents/{quoted(document_id)}", Deleted)

    async def delete_documents(
        self,
        collection: str,
        ids: Iterable[str] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's word
        timeout_s: float | None = None,
    ) -> Deleted:
        """Exactly one of `ids` and `filter`."""
        request = build(
            DocumentsDelete, ids=None if ids is None else list(ids), filter=None if filter is None else dict(filter)
        )
        return await self._call(
            "POST", f"{_collection(collection)}/documents/delete", Deleted, body=request, timeout_s=timeout_s
        )

    async def rebuild(self, collection: str, *, timeout_s: float | None = None) -> Rebuilt:
        """Returns when the new indexes are in place: seconds for 100,000 chunks, most of it for words."""
        return await self._call(
            "POST", f"{_collection(collection)}/rebuild", Rebuilt, timeout_s=timeout_s or _REBUILD_TIMEOUT_S
        )

    async def reindex(self, collection: str, model: str, *, flip: bool = True, timeout_s: float | None = None) -> Job:
        """Begins to build another model beside the serving one; searches go on. The job ends when it is ready, and serves
        if `flip`. Takes as long as the server needs to load the model."""
        answer = await self._call(
            "POST",
            f"{_collection(collection)}/reindex",
            ReindexAnswer,
            body=ReindexRequest(model=model, flip=flip),
            timeout_s=timeout_s,
        )
        return answer.job

    async def flip(self, collection: str) -> Collection:
        """The model that stands beside the serving one takes its place, and the other way round: again to roll back."""
        return await self._call("POST", f"{_collection(collection)}/flip", Collection)

    async def discard_reindex(self, collection: str, *, timeout_s: float | None = None) -> Collection:
        """Lets go of the model that stands beside the serving one, with all its vectors. Cancels its job."""
        return await self._call(
            "DELETE", f"{_collection(collection)}/reindex", Collection, timeout_s=timeout_s or _REBUILD_TIMEOUT_S
        )

    async def jobs(self, *, status: JobStatus | None = None, cursor: str | None = None, limit: int = 100) -> JobPage:
        return await self._call("GET", "/v1/jobs", JobPage, query=JobsQuery(status=status, cursor=cursor, limit=limit))

    async def job(self, job_id: str) -> Job:
        return await self._call("GET", f"/v1/jobs/{quoted(job_id)}", Job)

    async def cancel_job(self, job_id: str) -> Job:
        return await self._call("POST", f"/v1/jobs/{quoted(job_id)}/cancel", Job)

    async def retry_job(self, job_id: str) -> Job:
        """Queues again the documents of a job that failed and are kept."""
        return await self._call("POST", f"/v1/jobs/{quoted(job_id)}/retry", Job)

    async def job_events(self, job_id: str) -> AsyncGenerator[JobEvent, None]:
        """Until the job ends: the last event is `done`. Goes on where it was when the connection breaks."""
        async with aclosing(self._events(f"/v1/jobs/{quoted(job_id)}/events", JobEvent)) as events:
            async for event in events:
                yield event
                if event.kind == "done":
                    return

    async def search(
        self,
        query: str | None = None,
        *,
        collection: str | None = None,
        collections: list[str] | None = None,
        vector: Vector | None = None,
        mode: SearchMode = "hybrid",
        limit: int = 10,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's word
        fusion: Fusion | None = None,
        candidates: int = 100,
        rerank: Rerank | bool = False,
        suppress_duplicates: bool = False,
        mmr: Mmr | bool = False,
        group_by_document: bool = False,
        cursor: str | None = None,
        max_tokens: int | None = None,
        explain: bool = False,
        bearer: str | None = None,
        timeout_s: float | None = None,
    ) -> SearchAnswer:
        """`rerank` and `mmr` may be True, for what the protocol has by default. The next page is the same search with the
        answer's `next_cursor`; only `limit` and `explain` may be others."""
        request = SearchRequest(
            query=query,
            vector=vector,
            collection=collection,
            collections=collections,
            mode=mode,
            limit=limit,
            filter=None if filter is None else dict(filter),
            fusion=fusion,
            candidates=candidates,
            rerank=Rerank() if rerank is True else rerank or None,
            suppress_duplicates=suppress_duplicates,
            mmr=Mmr() if mmr is True else mmr or None,
            group_by_document=group_by_document,
            cursor=cursor,
            max_tokens=max_tokens,
            explain=explain,
        )
        return await self._call("POST", "/v1/search", SearchAnswer, body=request, bearer=bearer, timeout_s=timeout_s)

    async def embed(
        self,
        texts: list[str],
        *,
        kind: Literal["query", "document"],
        model: str | None = None,
        collection: str | None = None,
        timeout_s: float | None = None,
    ) -> EmbedAnswer:
        """With the server's first model, or with the one that is named or that serves `collection`."""
        request = EmbedRequest(texts=texts, kind=kind, model=model, collection=collection)
        return await self._call("POST", "/v1/embed", EmbedAnswer, body=request, timeout_s=timeout_s)

    async def add_feedback(
        self,
        collection: str,
        query: str,
        judgments: Iterable[DocumentJudgment | Mapping[str, Any]],
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's word
        comment: str | None = None,
        judged_at: datetime | None = None,
    ) -> FeedbackAnswer:
        """What somebody says of documents that a search found, or should have. Judged now unless said otherwise, so that a
        retry replaces nothing that was said meanwhile."""
        request = SearchFeedbackIn(
            collection=collection,
            query=query,
            judgments=[
                each if isinstance(each, DocumentJudgment) else build(DocumentJudgment, **each) for each in judgments
            ],
            filter=None if filter is None else dict(filter),
            comment=comment,
            judged_at=judged_at or datetime.now(UTC),
        )
        return await self._call("POST", "/v1/feedback", FeedbackAnswer, body=request)

    async def feedback(
        self,
        collection: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> SearchFeedbackPage:
        query = SearchFeedbackQuery(collection=collection, since=since, until=until, cursor=cursor, limit=limit)
        return await self._call("GET", "/v1/feedback", SearchFeedbackPage, query=query)

    async def delete_feedback(self, feedback_id: str) -> Deleted:
        return await self._call("DELETE", f"/v1/feedback/{quoted(feedback_id)}", Deleted)


def _collection(name: str) -> str:
    return f"/v1/collections/{quoted(name)}"


def _with_id(document: DocumentIn | Mapping[str, Any]) -> DocumentIn:
    if not isinstance(document, DocumentIn):
        document = build(DocumentIn, **document)
    return document if document.id else msgspec.structs.replace(document, id=uuid.uuid4().hex)

"""The routes of the retrieval service. A handler passes a call on to one method of the service, and nothing else."""

from typing import Any

from retrieval import VERSION
from retrieval.service import RetrievalService
from shared.feedback_messages import (
    FeedbackAnswer,
    SearchFeedbackIn,
    SearchFeedbackPage,
    SearchFeedbackQuery,
)
from shared.messages import Deleted, Info, PageQuery
from shared.operating import OPERATING_ROUTES
from shared.retrieval_messages import (
    TERMINAL,
    Collection,
    CollectionPage,
    CollectionSpec,
    Document,
    DocumentPage,
    DocumentsDelete,
    DocumentsQuery,
    EmbedAnswer,
    EmbedRequest,
    IngestAnswer,
    IngestRequest,
    Job,
    JobEvent,
    JobPage,
    JobsQuery,
    Rebuilt,
    ReindexAnswer,
    ReindexRequest,
    SearchAnswer,
    SearchRequest,
    UploadForm,
)
from shared.routes import Call, ForUser, Reply, Route, Stream
from shared.users import not_for_users, of_the_tenant

_COLLECTION = "/v1/collections/{collection}"
_DOCUMENTS = _COLLECTION + "/documents"


async def info(service: RetrievalService, _call: Call[None, None]) -> Info:
    default = service.models.default
    embedder = await default.embedder() if default.is_loaded else None
    details: dict[str, Any] = {
        "model": service.settings.model,
        "models": list(service.models.allowed),
        "models_loaded": service.models.loaded(),
        "embedding_backend": embedder.backend if embedder else None,
        "embedding_precision": embedder.precision if embedder else None,
        "dimensions": embedder.dimensions if embedder else None,
        "model_tokens_max": embedder.tokens_max if embedder else None,
        "document_characters_max": service.settings.document_characters_max,
        "body_bytes_max": service.settings.body_bytes_max,
    }
    return Info(service="retrieval", version=VERSION, protocol="v1", details=details)


async def put_collection(service: RetrievalService, call: Call[CollectionSpec, None]) -> Collection:
    return await service.put_collection(call.principal.tenant, call.path["collection"], call.body)


async def list_collections(service: RetrievalService, call: Call[None, PageQuery]) -> CollectionPage:
    page = await service.collection_page(call.principal.tenant, call.query.cursor, call.query.limit)
    return CollectionPage(items=page.items, next_cursor=page.next_cursor)


async def get_collection(service: RetrievalService, call: Call[None, None]) -> Collection:
    return await service.collection(call.principal.tenant, call.path["collection"])


async def delete_collection(service: RetrievalService, call: Call[None, None]) -> Deleted:
    return await service.delete_collection(call.principal.tenant, call.path["collection"])


async def rebuild(service: RetrievalService, call: Call[None, None]) -> Rebuilt:
    return await service.rebuild(call.principal.tenant, call.path["collection"])


async def reindex(service: RetrievalService, call: Call[ReindexRequest, None]) -> Reply:
    return Reply(202, await service.reindex(call.principal.tenant, call.path["collection"], call.body))


async def discard_reindex(service: RetrievalService, call: Call[None, None]) -> Collection:
    return await service.discard_reindex(call.principal.tenant, call.path["collection"])


async def flip(service: RetrievalService, call: Call[None, None]) -> Collection:
    return await service.flip(call.principal.tenant, call.path["collection"])


async def add_documents(service: RetrievalService, call: Call[IngestRequest, None]) -> Reply:
    answer = await service.ingest(call.principal.tenant, call.path["collection"], call.body)
    return Reply(200 if call.body.wait and answer.job.status in TERMINAL else 202, answer)


async def upload_files(service: RetrievalService, call: Call[UploadForm, None]) -> Reply:
    answer = await service.upload(call.principal.tenant, call.path["collection"], call.body)
    return Reply(200 if call.body.wait and answer.job.status in TERMINAL else 202, answer)


async def list_documents(service: RetrievalService, call: Call[None, DocumentsQuery]) -> DocumentPage:
    page = await service.document_page(call.principal.tenant, call.path["collection"], call.query)
    return DocumentPage(items=page.items, next_cursor=page.next_cursor)


async def get_document(service: RetrievalService, call: Call[None, None]) -> Document:
    return await service.document(call.principal.tenant, call.path["collection"], call.path["document"])


async def delete_document(service: RetrievalService, call: Call[None, None]) -> Deleted:
    return await service.delete_document(call.principal.tenant, call.path["collection"], call.path["document"])


async def delete_documents(service: RetrievalService, call: Call[DocumentsDelete, None]) -> Deleted:
    return await service.delete_documents(call.principal.tenant, call.path["collection"], call.body)


async def list_jobs(service: RetrievalService, call: Call[None, JobsQuery]) -> JobPage:
    query = call.query
    page = await service.job_page(call.principal.tenant, query.status, query.cursor, query.limit)
    return JobPage(items=page.items, next_cursor=page.next_cursor)


async def get_job(service: RetrievalService, call: Call[None, None]) -> Job:
    return await service.job(call.principal.tenant, call.path["job"])


async def cancel_job(service: RetrievalService, call: Call[None, None]) -> Job:
    return await service.cancel_job(call.principal.tenant, call.path["job"])


async def retry_job(service: RetrievalService, call: Call[None, None]) -> Job:
    return await service.retry_job(call.principal.tenant, call.path["job"])


async def job_events(service: RetrievalService, call: Call[None, None]) -> Stream:
    return Stream(await service.job_events(call.principal.tenant, call.path["job"], call.last_event_id))


async def search(service: RetrievalService, call: Call[SearchRequest, None]) -> SearchAnswer:
    return await service.search(call.principal.tenant, call.body)


async def embed(service: RetrievalService, call: Call[EmbedRequest, None]) -> EmbedAnswer:
    return await service.embed(call.principal.tenant, call.body)


async def add_feedback(service: RetrievalService, call: Call[SearchFeedbackIn, None]) -> FeedbackAnswer:
    return await service.feedback.add(call.principal, call.body)


async def list_feedback(service: RetrievalService, call: Call[None, SearchFeedbackQuery]) -> SearchFeedbackPage:
    page = await service.feedback.page(call.principal.tenant, call.query)
    return SearchFeedbackPage(items=page.items, next_cursor=page.next_cursor)


async def delete_feedback(service: RetrievalService, call: Call[None, None]) -> Deleted:
    return await service.feedback.delete(call.principal.tenant, call.path["feedback"])


def _read(
    method: str,
    path: str,
    summary: str,
    handler: Any,
    answer: type,
    *,
    for_user: ForUser = of_the_tenant,
    **more: Any,
) -> Route:
    return Route(
        method=method,
        path=path,
        summary=summary,
        handler=handler,
        scope="retrieval:read",
        for_user=for_user,
        answers={200: answer},
        **more,
    )


def _write(
    method: str,
    path: str,
    summary: str,
    handler: Any,
    answers: dict[int, type],
    *,
    for_user: ForUser = of_the_tenant,
    **more: Any,
) -> Route:
    return Route(
        method=method,
        path=path,
        summary=summary,
        handler=handler,
        scope="retrieval:write",
        for_user=for_user,
        answers=answers,
        **more,
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/info",
        summary="Version, model and limits",
        handler=info,
        scope=None,
        for_user=of_the_tenant,
        answers={200: Info},
    ),
    *OPERATING_ROUTES,
    _write(
        "PUT",
        _COLLECTION,
        "Make a collection, or change its description and fusion",
        put_collection,
        {200: Collection},
        body=CollectionSpec,
        body_optional=True,
    ),
    _read("GET", "/v1/collections", "List collections", list_collections, CollectionPage, query=PageQuery),
    _read("GET", _COLLECTION, "One collection with its counts", get_collection, Collection),
    _write("DELETE", _COLLECTION, "Delete a collection and everything in it", delete_collection, {200: Deleted}),
    _write(
        "POST",
        _COLLECTION + "/rebuild",
        "Make the collection's indexes anew from the truth, while searches go on",
        rebuild,
        {200: Rebuilt},
        takes_long=True,
    ),
    _write(
        "POST",
        _COLLECTION + "/reindex",
        "Build another model beside the serving one, and let it serve when it is ready",
        reindex,
        {202: ReindexAnswer},
        body=ReindexRequest,
    ),
    _write(
        "DELETE",
        _COLLECTION + "/reindex",
        "Let go of the model beside the serving one",
        discard_reindex,
        {200: Collection},
    ),
    _write(
        "POST",
        _COLLECTION + "/flip",
        "Change the serving model for the one beside it, or back",
        flip,
        {200: Collection},
    ),
    _write(
        "POST",
        _DOCUMENTS,
        "Ingest documents; with `wait`, answer when they are searchable",
        add_documents,
        {200: IngestAnswer, 202: IngestAnswer},
        body=IngestRequest,
    ),
    _write(
        "POST",
        _COLLECTION + "/files",
        "Upload files as a form; with `wait`, answer when they are searchable",
        upload_files,
        {200: IngestAnswer, 202: IngestAnswer},
        body=UploadForm,
        is_form=True,
    ),
    _read("GET", _DOCUMENTS, "List documents", list_documents, DocumentPage, query=DocumentsQuery),
    _write(
        "POST",
        _DOCUMENTS + "/delete",
        "Delete documents by id or filter",
        delete_documents,
        {200: Deleted},
        body=DocumentsDelete,
    ),
    _read("GET", _DOCUMENTS + "/{document}", "One document with its text and passages", get_document, Document),
    _write("DELETE", _DOCUMENTS + "/{document}", "Delete one document", delete_document, {200: Deleted}),
    _read("GET", "/v1/jobs", "List jobs, newest first", list_jobs, JobPage, query=JobsQuery),
    _read("GET", "/v1/jobs/{job}", "One job with its progress", get_job, Job),
    _write("POST", "/v1/jobs/{job}/cancel", "Cancel a job; what it stored stays", cancel_job, {200: Job}),
    _write("POST", "/v1/jobs/{job}/retry", "Queue a job's failed documents again", retry_job, {200: Job}),
    _read("GET", "/v1/jobs/{job}/events", "A job's progress as it comes", job_events, JobEvent, streams=True),
    _read("POST", "/v1/search", "Hybrid, dense or lexical search", search, SearchAnswer, body=SearchRequest),
    _read("POST", "/v1/embed", "Embed texts with the service's model", embed, EmbedAnswer, body=EmbedRequest),
    _read("POST", "/v1/feedback", "Judge what a search found", add_feedback, FeedbackAnswer, body=SearchFeedbackIn),
    _read(
        "GET",
        "/v1/feedback",
        "List what was judged",
        list_feedback,
        SearchFeedbackPage,
        query=SearchFeedbackQuery,
        for_user=not_for_users,
    ),
    _write(
        "DELETE",
        "/v1/feedback/{feedback}",
        "Delete a query's judgments",
        delete_feedback,
        {200: Deleted},
        for_user=not_for_users,
    ),
)

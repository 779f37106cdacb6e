"""Adding and deleting documents as tools.

What was accepted is kept and goes on, also when the agent gives up waiting: it is a durable job like any other, and asking
again changes nothing, because what is there is skipped. A document without an id gets one from its title and text, so that
the same one is the same one the next time.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from retrieval.agents.listing import check_collection, has_collection, said_collections
from retrieval.agents.messages import (
    AddArguments,
    DeleteArguments,
    DocumentsAdded,
    DocumentsDeleted,
    FailedDocument,
    NewDocument,
)
from retrieval.agents.names import Place
from retrieval.agents.naming import places_named
from retrieval.agents.texts import shortened
from retrieval.service import RetrievalService
from shared.errors import FieldError, InvalidFields, ServiceError, invalid
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import DocumentIn, DocumentsDelete, IngestAnswer, IngestRequest, Job, JobEvent
from shared.tasks import ended

DEFAULT_COLLECTION: Final = "documents"
_WORD = re.compile(r"[^\W_]+")
_SLUG_WORDS_MAX: Final = 5
_SLUG_LENGTH_MAX: Final = 40
# In hexadecimal: of documents that begin alike, a million have an equal one by chance once in two.
_DIGEST_DIGITS: Final = 10
# What models write; plain text is cut and found just as well.
_CONTENT_TYPE: Final = "text/markdown"
_ERROR_LENGTH_MAX: Final = 300
# Of a hundred names, so that an answer keeps to what hosts show.
_NAME_LENGTH_MAX: Final = 190


async def add_documents(service: RetrievalService, caller: Caller, arguments: AddArguments) -> Told:
    tenant = caller.principal.tenant
    documents = _documents(arguments.documents)
    name, is_new = await _collection_for(service, tenant, arguments.collection)
    try:
        accepted = await service.ingest(tenant, name, IngestRequest(documents=documents))
    except InvalidFields as error:
        raise _in_tool_words(error) from error
    answer = await _followed(service, caller, accepted.job)
    others = await said_collections(service, tenant) if is_new and arguments.collection is not None else None
    return _added(name, documents, answer, others)


async def delete_documents(service: RetrievalService, caller: Caller, arguments: DeleteArguments) -> Told:
    tenant = caller.principal.tenant
    names = list(dict.fromkeys(arguments.ids))
    collection = arguments.collection
    if collection is not None:
        await check_collection(service, tenant, collection)
    places = await places_named(service, tenant, names, collection=collection)
    passages = [name for name in names if (place := places[name]) is not None and place.start is not None]
    wholes = {name: place for name in names if (place := places[name]) is not None and place.start is None}
    ids: dict[str, list[str]] = {}
    for place in wholes.values():
        ids.setdefault(place.collection, []).append(place.document_id)
    known = [collection] if collection is not None else await service.collection_names(tenant, limit=2)
    if len(known) == 1:
        # One that was accepted and is still being indexed is in no collection yet; deleting it by id ends that too.
        ids.setdefault(known[0], []).extend(name for name in names if places[name] is None)
    for name, found in ids.items():
        if found:
            await service.delete_documents(tenant, name, DocumentsDelete(ids=found))
    missing = [name for name in names if name not in wholes]
    return _deleted(_named(list(wholes)), _named(missing), passages, places)


def document_id_of(document: NewDocument) -> str:
    """`how-to-rotate-keys-0a1b2c3d4e`: readable, and always the same for the same title and text."""
    if document.id is not None:
        return document.id
    words = _WORD.findall((document.title or document.text)[:_SLUG_LENGTH_MAX].lower())[:_SLUG_WORDS_MAX]
    digest = hashlib.blake2b(repr((document.title, document.text)).encode("utf-8", "surrogatepass")).hexdigest()
    return "-".join([*words, digest[:_DIGEST_DIGITS]])


def _documents(given: Sequence[NewDocument]) -> list[DocumentIn]:
    """Raises InvalidFields for an id that stands twice with different documents."""
    by_id: dict[str, NewDocument] = {}
    for index, document in enumerate(given):
        document_id = document_id_of(document)
        if by_id.setdefault(document_id, document) != document:
            raise invalid(f"documents[{index}].id", f"{document_id!r} stands twice in this call; give each its own")
    return [
        DocumentIn(
            id=document_id,
            title=each.title,
            text=each.text,
            content_type=_CONTENT_TYPE,
            metadata=each.metadata,
            only_if_new=True,
        )
        for document_id, each in by_id.items()
    ]


async def _collection_for(service: RetrievalService, tenant: str, named: str | None) -> tuple[str, bool]:
    """Its name, and whether it is made by this."""
    if named is not None:
        return named, not await has_collection(service, tenant, named)
    found = await service.collection_names(tenant, limit=2)
    return (found[0], False) if len(found) == 1 else (DEFAULT_COLLECTION, not found)


async def _followed(service: RetrievalService, caller: Caller, job: Job) -> IngestAnswer:
    """The job's end, telling the caller how far it is meanwhile."""
    tenant = caller.principal.tenant
    telling = asyncio.create_task(_tell(service, caller, job), name=f"tell-{job.id}")
    try:
        return await service.ingested(tenant, job.id)
    finally:
        await ended(telling)


async def _tell(service: RetrievalService, caller: Caller, job: Job) -> None:
    with suppress(ServiceError):  # who cannot be told waits for the end all the same
        async for event in await service.job_events(caller.principal.tenant, job.id, None):
            now = event.data.job if isinstance(event.data, JobEvent) else None
            if now is not None:
                await caller.progress(now.done, now.total, f"{now.done} of {now.total} documents are searchable")


def _added(name: str, documents: Sequence[DocumentIn], answer: IngestAnswer, others: str | None) -> Told:
    results = answer.results or []
    added = [each.id for each in results if each.status in {"created", "replaced"}]
    skipped = [each.id for each in results if each.status == "unchanged"]
    failed = [
        FailedDocument(id=each.id, error=shortened(each.error or "failed", _ERROR_LENGTH_MAX))
        for each in results
        if each.status == "failed"
    ]
    hints = []
    if answer.results is None:
        hints.append("Indexing goes on by itself and they will be searchable soon; there is nothing more to do.")
    if skipped:
        hints.append("What is there is never overwritten; to replace it, delete it first.")
    if others is not None:
        hints.append(f"The collection {shortened(name, _NAME_LENGTH_MAX)!r} is new. {others}")
    facts = DocumentsAdded(
        collection=name,
        added=added,
        skipped=skipped,
        searchable=answer.results is not None,
        failed=failed or None,
        hint=" ".join(hints) or None,
    )
    lines = [
        f"Added to {name}: {_names(added)}." if answer.results is not None else f"{len(documents)} accepted by {name}."
    ]
    if skipped:
        lines.append(f"Skipped, already there: {_names(skipped)}.")
    lines += [f"Failed: {each.id}: {each.error}" for each in failed]
    if added:
        lines.append("They are searchable.")
    return Told("\n".join([*lines, *hints]), facts)


def _deleted(deleted: list[str], missing: list[str], passages: Sequence[str], places: dict[str, Place | None]) -> Told:
    hint = None
    if passages and (place := places[passages[0]]) is not None:
        hint = f"{passages[0]} is a passage; whole documents are deleted: {place.document_id}."
    elif missing:
        hint = "search_documents finds the ids that there are."
    lines = [f"Deleted: {_names(deleted)}."]
    if missing:
        lines.append(f"Not found: {_names(missing)}.")
    if hint is not None:
        lines.append(hint)
    return Told("\n".join(lines), DocumentsDeleted(deleted=deleted, missing=missing, hint=hint))


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _named(names: Sequence[str]) -> list[str]:
    return [shortened(name, _NAME_LENGTH_MAX) for name in names]


def _in_tool_words(error: InvalidFields) -> InvalidFields:
    errors = [FieldError(each.path.removeprefix("$."), each.message) for each in error.errors]
    return InvalidFields(f"{errors[0].path}: {errors[0].message}", errors=errors)

"""A Haystack document store and retriever over the retrieval service: `pip install diptych[haystack]`.

    store = DiptychDocumentStore(collection="handbook")
    store.write_documents([Document(content="We deploy on Fridays.", meta={"team": "platform"})])
    DiptychRetriever(store, filters={"field": "meta.team", "operator": "==", "value": "platform"}).run("deploy")

The service makes the vectors itself, so embeddings and blobs of documents are not kept, and one without a text is refused.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from diptych.integrations.haystack_filters import to_filter
from shared.errors import InvalidFields, NotFound
from shared.retrieval_client import URL_DEFAULT, RetrievalClient
from shared.retrieval_messages import DocumentIn, Hit, SearchMode

ResultT = TypeVar("ResultT")

_CALLS_AT_ONCE: Final = 8
_PAGE: Final = 1000


class DiptychDocumentStore:
    """One collection. Every call opens a connection of its own in a thread of its own, so it can be used anywhere."""

    def __init__(self, url: str = URL_DEFAULT, collection: str = "haystack", *, api_key: Secret | None = None) -> None:
        self.url = url
        self.collection = collection
        self.api_key = api_key

    def to_dict(self) -> dict[str, Any]:
        key = self.api_key.to_dict() if self.api_key else None
        return default_to_dict(self, url=self.url, collection=self.collection, api_key=key)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DiptychDocumentStore":
        parameters = data["init_parameters"]
        if isinstance(parameters.get("api_key"), dict):
            parameters["api_key"] = Secret.from_dict(parameters["api_key"])
        store: DiptychDocumentStore = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        async def count(client: RetrievalClient) -> int:
            try:
                return (await client.collection(self.collection)).documents
            except NotFound:  # made by the first write
                return 0

        return self.call(count)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """By id. Raises FilterError."""
        wanted = to_filter(filters)

        async def find(client: RetrievalClient) -> list[Document]:
            found: list[str] = []
            cursor = None
            while True:
                try:
                    page = await client.documents(self.collection, filter=wanted, cursor=cursor, limit=_PAGE)
                except NotFound:
                    return []
                found += [each.id for each in page.items]
                if (cursor := page.next_cursor) is None:
                    return [each for each in await self._read(client, found) if each is not None]

        return self.call(find)

    def write_documents(self, documents: Sequence[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """How many were written. Without a policy, a document that is there already is an error, as with FAIL."""
        if not all(isinstance(each, Document) for each in documents):
            raise ValueError("documents must be a list of Document")
        if missing := [each.id for each in documents if each.content is None]:
            raise ValueError(f"only documents with a text can be stored; {missing[0]!r} has none")

        async def write(client: RetrievalClient) -> int:
            new = documents
            if policy is not DuplicatePolicy.OVERWRITE:
                read = await self._read(client, [each.id for each in documents])
                known = {each.id for each in read if each is not None}
                if known and policy is not DuplicatePolicy.SKIP:
                    raise DuplicateDocumentError(f"document {min(known)!r} is there already")
                new = [each for each in documents if each.id not in known]
            if new:
                await client.ingest(
                    self.collection, [DocumentIn(id=each.id, text=each.content, metadata=each.meta) for each in new]
                )
            return len(new)

        return self.call(write)

    def delete_documents(self, document_ids: list[str]) -> None:
        async def delete(client: RetrievalClient) -> None:
            with contextlib.suppress(NotFound):
                await client.delete_documents(self.collection, document_ids)

        if document_ids:
            self.call(delete)

    def delete_all_documents(self, recreate_collection: bool = False) -> None:  # noqa: FBT001, FBT002 - as other stores
        """Deletes the collection. It is made again, with the service's settings, at once or by the next write."""

        async def delete(client: RetrievalClient) -> None:
            with contextlib.suppress(NotFound):
                await client.delete_collection(self.collection)
            if recreate_collection:
                await client.put_collection(self.collection)

        self.call(delete)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """How many were deleted. Raises FilterError, also for a filter that would match everything."""
        wanted = to_filter(filters)
        if wanted is None:
            raise FilterError("an empty filter would delete every document; use delete_all_documents")

        async def delete(client: RetrievalClient) -> int:
            return (await client.delete_documents(self.collection, filter=wanted)).deleted

        return self.call(delete)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets these fields in what matches, and says how many documents there were. Not one transaction."""
        found = [replace(each, meta={**each.meta, **meta}) for each in self.filter_documents(filters)]
        return self.write_documents(found, DuplicatePolicy.OVERWRITE)

    def call(self, operation: Callable[[RetrievalClient], Awaitable[ResultT]]) -> ResultT:
        """Raises ServiceError as the client does, and FilterError where the service refuses a filter."""
        key = self.api_key.resolve_value() if self.api_key else None

        async def run() -> ResultT:
            async with RetrievalClient(self.url, api_key=key) as client:
                return await operation(client)

        try:
            with ThreadPoolExecutor(1) as thread:  # the caller's own thread may be running an event loop
                return thread.submit(lambda: asyncio.run(run())).result()
        except InvalidFields as error:
            if any(".filter" in each.path for each in error.errors):
                raise FilterError(str(error)) from error
            raise

    async def _read(self, client: RetrievalClient, ids: Iterable[str]) -> list[Document | None]:
        """Each document with its text; None where there is none."""
        slots = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def read(document_id: str) -> Document | None:
            async with slots:
                try:
                    found = await client.document(self.collection, document_id)
                except NotFound:
                    return None
            return Document(id=found.id, content=found.text, meta=found.metadata)

        return await asyncio.gather(*map(read, ids))


@component
class DiptychRetriever:
    """Passages that answer a query: hybrid search, with the service's own fusion."""

    def __init__(
        self,
        document_store: DiptychDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Literal["hybrid", "dense", "lexical"] = "hybrid",
    ) -> None:
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.mode: SearchMode = mode

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """One document for each passage, its place in `meta`. `filters` and `top_k` replace those of the component."""
        wanted = to_filter(filters or self.filters)
        limit = top_k or self.top_k

        async def search(client: RetrievalClient) -> list[Hit]:
            answer = await client.search(
                query, collection=self.document_store.collection, mode=self.mode, limit=limit, filter=wanted
            )
            return answer.hits

        return {"documents": [_passage(hit) for hit in self.document_store.call(search)]}


def _passage(hit: Hit) -> Document:
    place = {"document_id": hit.document_id, "start": hit.start, "end": hit.end, "title": hit.title, "uri": hit.uri}
    return Document(
        id=f"{hit.document_id}#{hit.chunk_id}", content=hit.text, meta={**hit.metadata, **place}, score=hit.score
    )

"""Haystack's own suite for document stores, against a running service: an outside oracle of what filters mean."""

import asyncio
import threading
import uuid
from collections.abc import Iterator

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import DocumentStoreBaseExtendedTests

from diptych.integrations.haystack import DiptychDocumentStore, DiptychRetriever
from diptych.integrations.haystack_filters import to_filter
from tests.harness import WAIT_S, running_retrieval

# Haystack's stores and tests are synchronous, so the service runs in a thread of its own.
pytestmark = pytest.mark.blocking


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    started, addresses, ends = threading.Event(), list[str](), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        async with running_retrieval(tmp_path_factory.mktemp("haystack")) as running:
            addresses.append(running.url)
            ends.append((asyncio.get_running_loop(), asyncio.Event()))
            started.set()
            await ends[0][1].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(WAIT_S)
    yield addresses[0]
    loop, end = ends[0]
    loop.call_soon_threadsafe(end.set)
    thread.join(WAIT_S)


@pytest.fixture
def document_store(url: str) -> DiptychDocumentStore:
    return DiptychDocumentStore(url, collection=uuid.uuid4().hex)


class TestDiptychDocumentStore(DocumentStoreBaseExtendedTests):
    @pytest.fixture
    def document_store(self, url: str) -> DiptychDocumentStore:
        return DiptychDocumentStore(url, collection=uuid.uuid4().hex)

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """Lists are in the order of ids, and the service makes the vectors itself, so embeddings do not come back."""

        def plain(documents: list[Document]) -> list[tuple[str, str | None, dict[str, object]]]:
            return sorted((each.id, each.content, each.meta) for each in documents)

        assert plain(received) == plain(expected)

    def test_write_documents(self, document_store: DiptychDocumentStore) -> None:  # type: ignore[override]
        """The suite leaves to each store what it does without a policy: here, what FAIL does."""
        document = Document(content="once")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        assert document_store.count_documents() == 1


def test_the_retriever_finds_passages_among_what_matches(document_store: DiptychDocumentStore) -> None:
    documents = [Document(id=name, content=f"deploy on {name}", meta={"team": name[0]}) for name in ("a1", "a2", "b1")]
    document_store.write_documents(documents, DuplicatePolicy.OVERWRITE)
    team = {"field": "meta.team", "operator": "==", "value": "a"}

    found = DiptychRetriever(document_store, filters=team).run("deploy")["documents"]

    assert {each.meta["document_id"] for each in found} == {"a1", "a2"}
    assert all(each.score is not None and each.content for each in found)
    assert len(DiptychRetriever(document_store).run("deploy", top_k=1)["documents"]) == 1


def test_a_store_is_serialised_and_made_again(document_store: DiptychDocumentStore) -> None:
    again = DiptychDocumentStore.from_dict(document_store.to_dict())

    assert (again.url, again.collection, again.api_key) == (document_store.url, document_store.collection, None)


def test_what_cannot_be_kept_or_asked_is_refused(document_store: DiptychDocumentStore) -> None:
    with pytest.raises(ValueError, match="has none"):
        document_store.write_documents([Document(content=None, meta={"a": 1})])
    document_store.write_documents([Document(content="x")])
    with pytest.raises(FilterError, match="only metadata"):
        document_store.filter_documents({"field": "content", "operator": "==", "value": "x"})
    with pytest.raises(FilterError, match="delete_all"):
        document_store.delete_by_filter({})
    with pytest.raises(FilterError, match=r"\$eq"):
        document_store.filter_documents({"field": "meta.a", "operator": "==", "value": [1]})
    with pytest.raises(FilterError, match="NAND"):
        to_filter({"operator": "NAND", "conditions": [{"field": "meta.a", "operator": "==", "value": 1}]})

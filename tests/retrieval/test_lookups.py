"""What agents look up before they ask: names, where a document is, and fields."""

from pathlib import Path

import pytest

from retrieval.agents.filters import type_of
from retrieval.truth.lookups import Field, Fields
from shared.errors import NotFound
from tests.harness import RunningRetrieval, make_key, running_retrieval


async def fields_of(running: RunningRetrieval, fields_max: int = 100) -> list[Fields]:
    return await running.service.fields("default", None, fields_max=fields_max)


async def test_fields_are_named_with_every_kind_of_their_values(retrieval: RunningRetrieval) -> None:
    for number, metadata in enumerate(
        [
            {"a": 1, "tags": ["x", 2, ["deep"]], "place": {"city": "Porto", "zip": None}},
            {"a": "one", "b": True, "tags": []},
            {},
        ]
    ):
        await retrieval.client.ingest("docs", [{"id": str(number), "text": "text", "metadata": metadata}])
    await retrieval.client.put_collection("empty")

    docs, empty = await fields_of(retrieval)

    assert docs.is_all
    assert docs.fields == (
        Field("a", ("number", "text"), ()),
        Field("b", ("boolean",), ()),
        Field("place", ("object",), ()),
        Field("place.city", ("text",), ()),
        Field("place.zip", ("null",), ()),
        Field("tags", ("list",), ("number", "text")),
    )
    assert [type_of([field]) for field in docs.fields] == [
        "number or text",
        "boolean",
        "",
        "text",
        "null",
        "list of number or text",
    ]
    assert empty.fields == ()


async def test_more_fields_than_are_asked_for_are_said_to_be_more(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "text", "metadata": {f"f{n}": n for n in range(5)}}])

    few, all_of_them = (await fields_of(retrieval, fields_max=4)), (await fields_of(retrieval, fields_max=5))

    assert ([field.name for field in few[0].fields], few[0].is_all) == (["f0", "f1", "f2", "f3"], False)
    assert (len(all_of_them[0].fields), all_of_them[0].is_all) == (5, True)
    only = await retrieval.service.fields("default", ["docs"], only=["f4", "f9"])
    assert [field.name for field in only[0].fields] == ["f4"]


async def test_what_was_deleted_has_no_fields_any_more(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "text", "metadata": {"old": 1}}])
    await retrieval.client.ingest("docs", [{"id": "a", "text": "text", "metadata": {"new": 1}}])

    assert [field.name for field in (await fields_of(retrieval))[0].fields] == ["new"]


async def test_names_and_ids_are_found_by_how_they_begin(retrieval: RunningRetrieval) -> None:
    for name in ("b", "ba", "bb", "c", "a"):
        await retrieval.client.ingest(name, [{"id": f"{name}{n}", "text": "text"} for n in range(3)])
    service = retrieval.service

    assert await service.collection_names("default", limit=9) == ["a", "b", "ba", "bb", "c"]
    assert await service.collection_names("default", prefix="b", limit=2) == ["b", "ba"]
    assert await service.collection_names("default", prefix="bc", limit=2) == []
    assert await service.document_ids("default", "ba", prefix="ba1", limit=9) == ["ba1"]
    assert await service.document_ids("default", "ba", limit=2) == ["ba0", "ba1"]
    assert await service.holders("default", ["a0", "b1", "nowhere"]) == {"a0": ["a"], "b1": ["b"]}
    with pytest.raises(NotFound):
        await service.document_ids("default", "none", limit=2)


async def test_lookups_stay_within_a_tenant(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "ours")
    async with running_retrieval(tmp_path, key=key) as running:
        await running.client.ingest("docs", [{"id": "a", "text": "text", "metadata": {"ours": 1}}])

        assert await running.service.holders("ours", ["a"]) == {"a": ["docs"]}
        assert await running.service.holders("other", ["a"]) == {}
        assert await running.service.collection_names("other", limit=9) == []
        assert await running.service.fields("other", None) == []

"""The filter language: what it accepts, what each operator means, and where it stops."""

from typing import Any

import pytest
from hypothesis import given

from shared.errors import InvalidFields
from shared.filters import DEPTH_MAX, LEAVES_MAX, VALUES_MAX, VALUES_TOTAL_MAX, matches, parse_filter
from tests.shared.filter_oracle import FILTERS, METADATA, holds
from tests.shared.strategies import PROPERTY

METADATA_OF_ONE: dict[str, Any] = {
    "lang": "en",
    "year": 2020,
    "rate": 0.5,
    "is_draft": False,
    "none": None,
    "tags": ["x", 7, True, None, ["inner"]],
    "author": {"name": "Ada", "born": {"year": 1815}},
    "dot.ted": {"key": 1},
    "published": "2026-03-01T10:00:00Z",
}


@given(FILTERS, METADATA)
@PROPERTY
def test_a_filter_means_what_the_plain_reading_says(conditions: dict[str, Any], metadata: dict[str, Any]) -> None:
    assert matches(parse_filter(conditions), metadata) == holds(conditions, metadata)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"lang": "en"},
        {"lang": {"$eq": "en"}, "year": {"$gte": 2020, "$lt": 2021}},
        {"year": 2020.0},
        {"rate": {"$in": ["0.5", 0.5]}},
        {"none": None},
        {"none": {"$exists": True}},
        {"tags": {"$contains": "x"}},
        {"tags": {"$contains": 7.0}},
        {"tags": {"$contains": None}},
        {"tags": {"$ne": "x"}},
        {"lang": {"$contains": "n"}},
        {"lang": {"$prefix": ""}},
        {"author.name": "Ada", "author.born.year": {"$lt": 1900}},
        {"author": {"$exists": True}},
        {"dot.ted.key": 1},
        {"published": {"$gte": "2026-03-01", "$lt": "2026-03-02"}},
        {"missing": {"$ne": 1}},
        {"missing": {"$nin": [1]}},
        {"missing": {"$exists": False}},
        {"$not": {"missing": {"$gt": 1}}},
        {"year": {"$not": {"$gt": 2020}}},
        {"$or": [{"lang": "de"}, {"$and": [{"lang": "en"}, {"is_draft": False}]}]},
        {"year": {"$nin": []}},
    ],
)
def test_these_are_true_of_it(conditions: dict[str, Any]) -> None:
    assert matches(parse_filter(conditions), METADATA_OF_ONE)


@pytest.mark.parametrize(
    "conditions",
    [
        {"lang": "EN"},
        {"year": "2020"},
        {"year": {"$gt": "1999"}},
        {"is_draft": 0},
        {"tags": "x"},
        {"tags": {"$in": ["x"]}},
        {"tags": {"$contains": 1}},
        {"tags": {"$contains": "inner"}},
        {"tags": {"$prefix": "x"}},
        {"year": {"$contains": 2}},
        {"missing": None},
        {"missing": {"$eq": 1}},
        {"missing": {"$lt": 1}},
        {"missing": {"$contains": "x"}},
        {"missing": {"$prefix": ""}},
        {"missing": {"$in": [None]}},
        {"year": {"$in": []}},
        {"author.born": {"$exists": False}},
        {"author": None},
    ],
)
def test_these_are_false_of_it(conditions: dict[str, Any]) -> None:
    assert not matches(parse_filter(conditions), METADATA_OF_ONE)


@pytest.mark.parametrize(
    ("conditions", "path"),
    [
        ({"year": {"$gte": None}}, "$.filter.year.$gte"),
        ({"year": {"$gte": True}}, "$.filter.year.$gte"),
        ({"year": {"$lt": [1]}}, "$.filter.year.$lt"),
        ({"year": {"$in": 1}}, "$.filter.year.$in"),
        ({"year": {"$in": "abc"}}, "$.filter.year.$in"),
        ({"year": {"$nin": [1, [2]]}}, "$.filter.year.$nin[1]"),
        ({"year": {"$in": [{"a": 1}]}}, "$.filter.year.$in[0]"),
        ({"tags": ["x"]}, "$.filter.tags"),
        ({"tags": {"$eq": ["x"]}}, "$.filter.tags.$eq"),
        ({"tags": {"$contains": ["x"]}}, "$.filter.tags.$contains"),
        ({"tags": {"$contains": b"x"}}, "$.filter.tags.$contains"),
        ({"a": {"$prefix": 1}}, "$.filter.a.$prefix"),
        ({"a": {"$exists": 1}}, "$.filter.a.$exists"),
        ({"a": {"$exists": "true"}}, "$.filter.a.$exists"),
        ({"a": {"b": 1}}, "$.filter.a.b"),
        ({"a": {}}, "$.filter.a"),
        ({"a": {"$regex": "x"}}, "$.filter.a.$regex"),
        ({"a": {"$not": 1}}, "$.filter.a.$not"),
        ({"a": {"$or": []}}, "$.filter.a.$or"),
        ({"$gt": 1}, "$.filter.$gt"),
        ({"$nor": []}, "$.filter.$nor"),
        ({"$and": []}, "$.filter.$and"),
        ({"$or": {"a": 1}}, "$.filter.$or"),
        ({"$or": [{"a": 1}, {}]}, "$.filter.$or[1]"),
        ({"$or": [1]}, "$.filter.$or[0]"),
        ({"$not": [{"a": 1}]}, "$.filter.$not"),
        ({"$and": [{"$or": [{"a": {"$lt": False}}]}]}, "$.filter.$and[0].$or[0].a.$lt"),
        ({"a": float("inf")}, "$.filter.a"),
        ({"a": 2**63}, "$.filter.a"),
        ({"a": "x\x00"}, "$.filter.a"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_path(conditions: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        parse_filter(conditions)

    assert [path] == [error.path for error in caught.value.errors]


def nested(depth: int) -> dict[str, Any]:
    return {"a": 1} if depth == 1 else {"$not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("under", "over"),
    [
        (nested(DEPTH_MAX), nested(DEPTH_MAX + 1)),
        ({"$or": [{"a": 1}] * LEAVES_MAX}, {"$or": [{"a": 1}] * (LEAVES_MAX + 1)}),
        ({"a": {"$in": list(range(VALUES_MAX))}}, {"a": {"$in": list(range(VALUES_MAX + 1))}}),
        (
            {"$or": [{"a": {"$in": list(range(1000))}}] * (VALUES_TOTAL_MAX // 1000)},
            {"$or": [{"a": {"$in": list(range(1000))}}] * (VALUES_TOTAL_MAX // 1000) + [{"a": {"$in": [1]}}]},
        ),
        ({"n" * 1024: 1}, {"n" * 1025: 1}),
    ],
    ids=["depth", "leaves", "values", "values together", "name"],
)
def test_each_limit_is_where_it_is_said_to_be(under: dict[str, Any], over: dict[str, Any]) -> None:
    parse_filter(under)
    with pytest.raises(InvalidFields):
        parse_filter(over)


def test_a_not_under_a_name_counts_as_deep_as_one_above_it() -> None:
    deepest = {"$and": [{"$and": [{"$and": [{"a": {"$not": {"$gt": 1}}}]}]}]}
    parse_filter(deepest)
    with pytest.raises(InvalidFields, match="deeper"):
        parse_filter({"$and": [deepest]})

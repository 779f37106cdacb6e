"""What agents call documents and passages: short where that is clear, longer where it is not. Pure.

    ops-12              the document of this id, where one collection has it
    guides/ops-12       the one in this collection
    ops-12#3480         the passage of it that starts at this character; the same with a collection before it
    doc://guides/ops-12 an address, with or without a passage; everything in it is percent-encoded

A document's id may itself hold a slash or a number sign. So a name is read in this order, and the first reading that some
document fits is taken: an address; a whole id; a collection and an id; and only then the same two with a passage. Names that
we give are the shortest that are read as what they were given for.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidFields, invalid
from shared.mcp.addresses import address, match

DOCUMENT_ADDRESS: Final = "doc://{collection}/{document_id}"
_PASSAGE = re.compile(r"(?s)(.+)#([0-9]{1,9})")
_NAMES_SHOWN_MAX: Final = 5

# The collections that have a document of an id.
Holders = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A document, and in it the character that a passage starts at."""

    collection: str
    document_id: str
    start: int | None = None


@dataclass(frozen=True, slots=True)
class _Reading:
    collection: str | None
    document_id: str
    start: int | None

    def places(self, holders: Holders) -> list[Place]:
        found = holders.get(self.document_id, ())
        return [
            Place(name, self.document_id, self.start)
            for name in found
            if self.collection is None or self.collection == name
        ]


def ids_in(names: Iterable[str]) -> list[str]:
    """Every id of a document that these names may stand for."""
    return list(dict.fromkeys(reading.document_id for name in names for reading in _readings(name)))


def places_of(name: str, holders: Holders) -> list[Place]:
    """None where no document fits, more than one where several collections have it."""
    return next((places for reading in _readings(name) if (places := reading.places(holders))), [])


def place_of(name: str, holders: Holders) -> Place | None:
    """Raises InvalidFields where the name fits several documents."""
    places = places_of(name, holders)
    if len(places) > 1:
        raise _ambiguous(name, places, holders)
    return places[0] if places else None


def names_to_check(place: Place) -> list[str]:
    """Names that `name_of` chooses from; it needs the holders of every id in them."""
    passage = "" if place.start is None else f"#{place.start}"
    return [
        f"{place.document_id}{passage}",
        f"{place.collection}/{place.document_id}{passage}",
        address(DOCUMENT_ADDRESS, collection=place.collection, document_id=place.document_id) + passage,
    ]


def name_of(place: Place, holders: Holders) -> str:
    names = names_to_check(place)
    return next((name for name in names if places_of(name, holders) == [place]), names[-1])


def _readings(name: str) -> list[_Reading]:
    passage = _PASSAGE.fullmatch(name)
    whole, start = (passage[1], int(passage[2])) if passage else (name, None)
    found: list[_Reading] = []
    for text, at in ((name, None), (whole, start)):
        values = match(DOCUMENT_ADDRESS, text)
        if values is not None:
            found.append(_Reading(values["collection"], values["document_id"], at))
    found += _plain_readings(name, None)
    return found + (_plain_readings(whole, start) if passage else [])


def _plain_readings(text: str, start: int | None) -> list[_Reading]:
    collection, slash, document_id = text.partition("/")
    qualified = [_Reading(collection, document_id, start)] if slash and collection and document_id else []
    return [_Reading(None, text, start), *qualified]


def _ambiguous(name: str, places: Sequence[Place], holders: Holders) -> InvalidFields:
    choices = [name_of(place, holders) for place in places[:_NAMES_SHOWN_MAX]]
    return invalid("ids", f"{name!r} is in {len(places)} collections; say which: {', '.join(choices)}")

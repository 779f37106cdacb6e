"""Every field of every tool is explained, in both services, and no meaning is kept for a field that is gone."""

from collections.abc import Iterator
from typing import Any

import pytest

from memory.agents.catalogue import CATALOGUE as MEMORY
from retrieval.agents.catalogue import CATALOGUE as RETRIEVAL
from retrieval.agents.catalogue import OPENAI_CATALOGUE
from shared.mcp.catalogue import Catalogue
from shared.mcp.schemas import explained, schema_of

CATALOGUES = (RETRIEVAL, OPENAI_CATALOGUE, MEMORY)


def properties(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in node if isinstance(node, list) else [node]:
        if isinstance(part, dict):
            yield from part.get("properties", {}).items()
            for below in (*part.get("properties", {}).values(), part.get("items"), part.get("anyOf")):
                yield from properties(below)


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda catalogue: catalogue.name)
def test_each_argument_has_a_description(catalogue: Catalogue) -> None:
    for tool in catalogue.tools:
        arguments = schema_of(tool.arguments)["properties"]
        assert [name for name, node in arguments.items() if "description" not in node] == [], tool.name


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda catalogue: catalogue.name)
def test_each_field_of_an_answer_has_a_meaning(catalogue: Catalogue) -> None:
    for tool in catalogue.tools:
        found = explained(
            schema_of(tool.answers),
            lambda name, tool=tool.name: catalogue.glossary.get(f"{tool}.{name}") or catalogue.glossary.get(name),  # type: ignore[misc]
        )
        assert [name for name, node in properties(found) if "description" not in node] == [], tool.name


@pytest.mark.parametrize("catalogues", [(RETRIEVAL, OPENAI_CATALOGUE), (MEMORY,)], ids=["retrieval", "memory"])
def test_each_meaning_is_one_of_a_field_that_there_is(catalogues: tuple[Catalogue, ...]) -> None:
    tools = [tool for catalogue in catalogues for tool in catalogue.tools]
    fields = {tool.name: {name for name, _ in properties(schema_of(tool.answers))} for tool in tools}
    for key in catalogues[0].glossary:
        tool, _, name = key.rpartition(".")
        assert name in (fields[tool] if tool else set.union(*fields.values())), key

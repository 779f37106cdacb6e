"""Prompts that people choose in their client: what to do with the tools, for a question or for some documents."""

from collections.abc import Mapping
from typing import Final

from retrieval.agents.listing import check_collection
from retrieval.agents.naming import places_named
from retrieval.agents.resources import suggest_collections
from retrieval.agents.texts import quoted, shortened
from retrieval.service import RetrievalService
from shared.errors import invalid
from shared.mcp.catalogue import Caller, Prompt, PromptArgument

_COMPARED_MAX: Final = 10
_NAME_LENGTH_MAX: Final = 100


async def write_answer_with_sources(service: RetrievalService, caller: Caller, given: Mapping[str, str]) -> str:
    """Raises NotFound for a collection that is not there."""
    collection = given.get("collection")
    within = ""
    if collection:
        await check_collection(service, caller.principal.tenant, collection)
        within = f" with collection={quoted(collection)}"
    return (
        f"Answer this question from the stored documents:\n\n{given['question']}\n\n"
        f"Search with search_documents{within}, in words of the question and again in other words if little is found. Read on "
        "with get_document where a passage is cut or its context matters. Then answer, and after each statement name the "
        "id of the document that it comes from, in brackets. Say plainly what the documents do not tell; add nothing of "
        "your own."
    )


async def write_compare_documents(service: RetrievalService, caller: Caller, given: Mapping[str, str]) -> str:
    """Raises InvalidFields for documents that are not there."""
    names = list(dict.fromkeys(name.strip() for name in given["ids"].split(",") if name.strip()))
    if not 2 <= len(names) <= _COMPARED_MAX:  # noqa: PLR2004 - less is no comparison
        raise invalid("ids", f"give 2 to {_COMPARED_MAX} ids, with commas between them")
    places = await places_named(service, caller.principal.tenant, names)
    missing = [shortened(name, _NAME_LENGTH_MAX) for name in names if places[name] is None]
    if missing:
        raise invalid("ids", f"not found: {', '.join(missing)}; search_documents finds the ids that there are")
    return (
        f"Compare these documents: {', '.join(names)}.\n\nThe question: {given['question']}\n\n"
        f"Read them with get_document(ids=[{', '.join(map(quoted, names))}]), on to their ends where they are long. Then say "
        "where they agree, where they differ and what only one of them says, each with the document's id in brackets, and "
        "answer the question. Say plainly what none of them tells."
    )


PROMPTS: Final = (
    Prompt(
        name="answer_with_sources",
        title="Answer with sources",
        description="Answers a question from the stored documents alone, with the sources",
        arguments=(
            PromptArgument(name="question", description="What to answer", is_required=True),
            PromptArgument(
                name="collection", description="Where to look", is_required=False, complete=suggest_collections
            ),
        ),
        scope="retrieval:read",
        write=write_answer_with_sources,
    ),
    Prompt(
        name="compare_documents",
        title="Compare documents",
        description="Compares documents under a question",
        arguments=(
            PromptArgument(name="ids", description="Ids of 2 to 10 documents, with commas between", is_required=True),
            PromptArgument(name="question", description="What to compare them for", is_required=True),
        ),
        scope="retrieval:read",
        write=write_compare_documents,
    ),
)

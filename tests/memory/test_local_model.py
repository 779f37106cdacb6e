"""Summaries by a real language model, served on this machine: so small that some of what it says must be refused."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from memory.models.pieces import render
from memory.models.summary_checks import SummaryRefused
from memory.text.languages import language_of
from memory.text.mentions import find_mentions, unsupported
from memory.truth.records import Line
from shared.tokens import estimate_tokens
from tests.memory.local_model import MODEL, LocalModel, serving_model
from tests.memory.test_llm_summarizer import summarizer_of
from tests.memory.test_pieces import line

# Loading it, and torch, takes seconds and reads files.
pytestmark = [pytest.mark.slow, pytest.mark.blocking]

# More than the slowest answer on two cores.
TIMEOUT_S = 300.0


def talk(*texts: str) -> list[Line]:
    """Ada and the assistant in turn."""
    return [
        line(text, speaker="Ada", seq=seq) if seq % 2 else line(text, role="assistant", seq=seq)
        for seq, text in enumerate(texts, start=1)
    ]


TALKS = {
    "a broken build": talk(
        "Hello! The build of the payment service is broken since this morning. Can you have a look?",
        "Of course. I see that the new parser rejects empty lines, and the configuration file has some.",
        "That explains it. Should we change the file or the parser?",
        "The parser, because customers have such files too. I would allow empty lines and add a test.",
        "Good, do that. And tell Bo, he is waiting for the release.",
        "I will tell Bo as soon as the test passes.",
    ),
    "a journey": talk(
        "I want to travel to Lisbon with my sister in spring. She does not like to fly.",
        "Then the train is the best way. You would change in Paris and in Madrid, and sleep one night in each.",
        "How long does it take all in all?",
        "Three days with the nights, and it costs more than flying. You can see both cities on the way.",
        "We will take the train. Please remember that my sister is a vegetarian.",
        "I will look for restaurants with vegetarian food in Paris, Madrid and Lisbon.",
    ),
    "a garden": talk(
        "My tomatoes have brown spots on their leaves. What is it?",
        "It is probably early blight, a fungus that comes with wet weather. Are the lower leaves worse?",
        "Yes, the lower ones are much worse, and we had rain all week.",
        "Take off those leaves, water only the soil, and give the plants more room. Do not put the leaves on the compost.",
        "I will do it on the weekend. My neighbour Carl has the same problem.",
        "Then tell Carl too, because the fungus spreads with the wind.",
    ),
}


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel()


@pytest.fixture
async def url(model: LocalModel) -> AsyncIterator[str]:
    async with serving_model(model) as url:
        yield url


async def outcome(url: str, lines: list[Line], tokens_max: int, **settings: Any) -> str | SummaryRefused:
    async with summarizer_of(url, llm_model=MODEL, llm_timeout_s=TIMEOUT_S, **settings) as summarizer:
        try:
            return await summarizer.summarize(lines, tokens_max)
        except SummaryRefused as refusal:
            return refusal


async def test_what_it_says_is_kept_where_the_turns_bear_it_out_and_refused_elsewhere(url: str) -> None:
    outcomes = {name: await outcome(url, lines, 120) for name, lines in TALKS.items()}

    kept = {name: each for name, each in outcomes.items() if isinstance(each, str)}
    assert kept, {name: repr(each) for name, each in outcomes.items()}
    for name, summary in kept.items():
        assert 0 < estimate_tokens(summary) <= 120
        assert language_of(summary) == "en"
        assert unsupported(summary, "\n".join(render(TALKS[name], 4096)), find_mentions) == set()
    for each in outcomes.values():
        assert isinstance(each, str) or each.reason != "model"


async def test_tokens_are_counted_by_the_model_that_read_them(url: str) -> None:
    registry = CollectorRegistry()
    async with summarizer_of(url, registry=registry, llm_model=MODEL, llm_timeout_s=TIMEOUT_S) as summarizer:
        with suppress(SummaryRefused):  # what it said was paid for all the same
            await summarizer.summarize(TALKS["a garden"], 120)

    read = registry.get_sample_value("diptych_llm_tokens_total", {"kind": "prompt"})
    written = registry.get_sample_value("diptych_llm_tokens_total", {"kind": "completion"})
    assert 300 < (read or 0) < 1000
    assert 0 < (written or 0) <= 240


async def test_an_answer_that_cannot_be_kept_falls_back(url: str) -> None:
    """No model says anything about this in two tokens; the caller gets one error and has the extract."""
    refusal = await outcome(url, TALKS["a journey"], 2)

    assert isinstance(refusal, SummaryRefused)
    assert refusal.reason in {"too_long", "empty"}


async def test_more_than_it_reads_at_once_is_read_in_pieces(url: str) -> None:
    lines = [each for lines in TALKS.values() for each in lines]
    result = await outcome(url, lines, 200, llm_context_tokens=2048)

    assert isinstance(result, str) or result.reason != "model"

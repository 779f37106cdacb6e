"""The chat client tries what may pass again, within limits, and says what kind of failure the rest is."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from diptych.ports import free_ports
from memory.models.breaker import Breaker
from memory.models.chat_answers import ChatFailed, Failure, failure_of
from memory.models.chat_model import Message, Prices
from shared.tokens import estimate_tokens
from tests.harness import WAIT_S, until
from tests.memory.chats import KEY, as_json, chat_of, refused, said
from tests.shared.scripted import Answer, Broken, Scripted, Silence, scripted

HELLO = [Message("system", "Be brief."), Message("user", "Who was there?")]
GOOD = said("Ada was.")
BUSY = refused(429)


def sent(server: Scripted) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in server.asked]


async def test_it_asks_as_the_protocol_has_it() -> None:
    async with scripted(GOOD) as server, chat_of(server) as chat:
        answer = await chat.complete(HELLO, tokens_max=99)

    assert (answer.text, answer.is_whole) == ("Ada was.", True)
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == (
        "POST",
        "/v1/chat/completions",
        f"Bearer {KEY}",
    )
    assert sent(server) == [
        {
            "model": "tiny",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who was there?"}],
            "max_tokens": 99,
            "temperature": 0,
        }
    ]


@pytest.mark.parametrize("passing", [BUSY, refused(503), refused(500), refused(529), Broken], ids=str)
async def test_what_may_pass_is_tried_again(passing: Answer | type[Broken]) -> None:
    async with scripted(passing, passing, GOOD) as server, chat_of(server) as chat:
        assert (await chat.complete(HELLO, tokens_max=9)).text == "Ada was."
        assert len(server.asked) == 3


async def test_tries_are_bounded() -> None:
    async with scripted(BUSY) as server, chat_of(server, retries=2) as chat:
        with pytest.raises(ChatFailed) as caught:
            await chat.complete(HELLO, tokens_max=9)

        assert (caught.value.kind, len(server.asked)) == ("overloaded", 3)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(401), "misconfigured"),
        (refused(403), "misconfigured"),
        (refused(404, code="model_not_found"), "misconfigured"),
        (refused(429, code="insufficient_quota"), "misconfigured"),
        (refused(400), "refused"),
        (refused(400, code="context_length_exceeded"), "too_long"),
        (Answer(400, b'{"object": "error", "message": "maximum context length is 8192 tokens"}'), "too_long"),
        (Answer(302, b"", headers={"Location": "http://127.0.0.1:9/"}), "refused"),
        (Answer(200, b"<html>welcome</html>", "text/html"), "malformed"),
        (Answer(200, b"\xff\xfe"), "malformed"),
        (Answer(200, b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "malformed"),
        (as_json({}), "malformed"),
        (as_json({"choices": []}), "malformed"),
        (as_json({"choices": [{"message": {"content": ["parts"]}}]}), "malformed"),
        (said("text", finish_reason="tool_calls"), "malformed"),
        (said(None), "empty"),
        (said(" \n "), "empty"),
        (said("text", finish_reason="content_filter"), "filtered"),
        (as_json({"choices": [{"message": {"content": "no", "refusal": "I must not"}}]}), "filtered"),
        (Answer(200, b"[" * 5_000_000), "malformed"),
    ],
)
async def test_what_another_try_cannot_mend_is_told_at_once(answer: Answer, kind: Failure) -> None:
    async with scripted(answer, GOOD) as server, chat_of(server) as chat:
        with pytest.raises(ChatFailed) as caught:
            await chat.complete(HELLO, tokens_max=9)

        assert (caught.value.kind, len(server.asked)) == (kind, 1)


@pytest.mark.parametrize("finish_reason", ["stop", "STOP", "eos_token", "end_turn", None])
async def test_an_answer_that_came_to_its_end_is_whole(finish_reason: str | None) -> None:
    async with scripted(said("Ada was.", finish_reason=finish_reason)) as server, chat_of(server) as chat:
        assert (await chat.complete(HELLO, tokens_max=9)).is_whole


async def test_an_answer_that_was_cut_off_says_so() -> None:
    async with scripted(said("Ada was. Then", finish_reason="length")) as server, chat_of(server) as chat:
        assert not (await chat.complete(HELLO, tokens_max=9)).is_whole


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    async with scripted(Silence, GOOD) as server, chat_of(server, timeout_s=0.1, retries=0) as chat:
        with pytest.raises(ChatFailed, match=r"no answer within 0\.1 s") as caught:
            await chat.complete(HELLO, tokens_max=9)

        assert caught.value.kind == "timeout"


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    (port,) = free_ports(1)
    async with chat_of(Scripted(f"http://127.0.0.1:{port}", []), retries=1) as chat:
        with pytest.raises(ChatFailed) as caught:
            await chat.complete(HELLO, tokens_max=9)

        assert caught.value.kind == "unreachable"


class TestRetryAfter:
    async def test_it_is_waited_for(self) -> None:
        now = asyncio.get_running_loop().time
        async with scripted(refused(429, retry_after="0.3"), GOOD) as server, chat_of(server) as chat:
            began = now()
            await chat.complete(HELLO, tokens_max=9)

            assert now() - began >= 0.3

    async def test_a_wait_beyond_what_a_call_may_take_is_not_begun(self) -> None:
        async with scripted(refused(429, retry_after="3600"), GOOD) as server, chat_of(server) as chat:
            with pytest.raises(ChatFailed) as caught:
                await chat.complete(HELLO, tokens_max=9)

            assert (caught.value.retry_after_s, len(server.asked)) == (3600.0, 1)

    async def test_and_nothing_is_sent_until_it_is_over(self) -> None:
        breaker = Breaker(failures_max=9, pause_s=60.0)
        async with scripted(refused(503, retry_after="3600"), GOOD) as server, chat_of(server, breaker=breaker) as chat:
            kinds = [await kind_of_failure(chat.complete(HELLO, tokens_max=9)) for _ in range(2)]

            assert (kinds, len(server.asked)) == (["overloaded", "paused"], 1)

    def test_it_may_be_a_date(self) -> None:
        now = datetime(2026, 5, 1, tzinfo=UTC)
        later = format_datetime(now + timedelta(seconds=90), usegmt=True)

        assert failure_of(429, b"", later, now).retry_after_s == 90.0

    def test_no_server_is_left_alone_for_more_than_an_hour(self) -> None:
        now = datetime(2026, 5, 1, tzinfo=UTC)

        assert [failure_of(429, b"", value, now).retry_after_s for value in ("1e9", "inf")] == [3600.0, 3600.0]

    @pytest.mark.parametrize("value", ["", "soon", "-5", "Fri, 01 May 2020 00:00:00 GMT", "nan"])
    def test_what_is_no_time_to_come_asks_for_nothing(self, value: str) -> None:
        assert failure_of(429, b"", value, datetime(2026, 5, 1, tzinfo=UTC)).retry_after_s == 0.0


class TestCircuit:
    async def test_it_opens_after_failures_in_a_row_also_within_one_call(self) -> None:
        async with scripted(refused(500)) as server, chat_of(server, failures_max=4, retries=2) as chat:
            kinds = [await kind_of_failure(chat.complete(HELLO, tokens_max=9)) for _ in range(3)]

            assert (kinds, len(server.asked)) == (["server_error", "server_error", "paused"], 4)

    async def test_it_closes_again_once_one_call_succeeds(self) -> None:
        breaker = Breaker(failures_max=1, pause_s=0.05)
        async with (
            scripted(refused(500), refused(500), GOOD) as server,
            chat_of(server, breaker=breaker, retries=0) as chat,
        ):
            await kind_of_failure(chat.complete(HELLO, tokens_max=9))

            async def answers() -> bool:
                return await kind_of_failure(chat.complete(HELLO, tokens_max=9)) is None

            await until(answers)
            assert not breaker.is_open
            assert len(server.asked) == 3

    async def test_requests_that_do_not_suit_it_do_not_open_it(self) -> None:
        answers = [refused(400), said(""), said("x", finish_reason="content_filter"), GOOD]
        async with scripted(*answers) as server, chat_of(server, failures_max=1) as chat:
            kinds = [await kind_of_failure(chat.complete(HELLO, tokens_max=9)) for _ in range(4)]

            assert kinds == ["refused", "empty", "filtered", None]

    async def test_a_call_that_is_cancelled_leaves_room_for_the_next_trial(self) -> None:
        breaker = Breaker(failures_max=1, pause_s=0.0)
        async with scripted(refused(500), Silence, GOOD) as server, chat_of(server, breaker=breaker, retries=0) as chat:
            await kind_of_failure(chat.complete(HELLO, tokens_max=9))
            trial = asyncio.create_task(chat.complete(HELLO, tokens_max=9))
            await until(lambda: asyncio.sleep(0, len(server.asked) == 2))
            assert await kind_of_failure(chat.complete(HELLO, tokens_max=9)) == "paused"
            trial.cancel()
            await asyncio.gather(trial, return_exceptions=True)

            assert await kind_of_failure(chat.complete(HELLO, tokens_max=9)) is None


class TestDialects:
    async def test_a_model_with_another_name_for_the_limit_and_no_temperature_gets_its_way_from_then_on(self) -> None:
        other_name = refused(400, code="unsupported_parameter", param="max_tokens")
        no_temperature = refused(400, code="unsupported_value", param="temperature")
        async with scripted(other_name, no_temperature, GOOD) as server, chat_of(server, retries=0) as chat:
            for _ in range(2):
                await chat.complete(HELLO, tokens_max=9)

            fields = [{name for name in body if name not in {"model", "messages"}} for body in sent(server)]
            assert fields == [
                {"max_tokens", "temperature"},
                {"max_completion_tokens", "temperature"},
                {"max_completion_tokens"},
                {"max_completion_tokens"},
            ]

    async def test_a_model_that_refuses_both_names_is_not_asked_for_ever(self) -> None:
        async with scripted(refused(400, param="max_tokens")) as server, chat_of(server) as chat:
            assert await kind_of_failure(chat.complete(HELLO, tokens_max=9)) == "refused"
            assert len(server.asked) == 2


async def test_no_more_requests_are_under_way_at_once_than_were_allowed() -> None:
    async with scripted(Silence) as server, chat_of(server, requests_in_flight_max=2) as chat:
        calls = [asyncio.create_task(chat.complete(HELLO, tokens_max=9)) for _ in range(5)]
        await until(lambda: asyncio.sleep(0, len(server.asked) == 2))
        calls[0].cancel()
        await until(lambda: asyncio.sleep(0, len(server.asked) == 3))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        assert len(server.asked) == 3


class TestCounters:
    async def test_tokens_and_their_price_add_up(self) -> None:
        registry = CollectorRegistry()
        answer = said("Ada was.", usage={"prompt_tokens": 1_000, "completion_tokens": 200, "total_tokens": 1_200})
        prices = Prices(prompt=2.0, completion=10.0)
        async with scripted(BUSY, answer) as server, chat_of(server, registry=registry, prices=prices) as chat:
            for _ in range(2):
                await chat.complete(HELLO, tokens_max=9)

        assert value_of(registry, "diptych_llm_tokens_total", kind="prompt") == 2_000
        assert value_of(registry, "diptych_llm_tokens_total", kind="completion") == 400
        assert value_of(registry, "diptych_llm_cost_total") == pytest.approx(0.008)
        assert value_of(registry, "diptych_llm_calls_total") == 3
        assert value_of(registry, "diptych_llm_call_seconds_count") == 3

    @pytest.mark.parametrize("usage", [None, {"prompt_tokens": None}, {"prompt_tokens": -1, "completion_tokens": 1}])
    async def test_a_server_that_does_not_count_is_counted_for(self, usage: dict[str, Any] | None) -> None:
        registry = CollectorRegistry()
        async with scripted(said("Ada was.", usage=usage)) as server, chat_of(server, registry=registry) as chat:
            await chat.complete(HELLO, tokens_max=9)

        read = sum(estimate_tokens(message.content) for message in HELLO)
        assert value_of(registry, "diptych_llm_tokens_total", kind="prompt") == read
        assert value_of(registry, "diptych_llm_tokens_total", kind="completion") == estimate_tokens("Ada was.")

    async def test_a_failure_is_counted_once_by_its_kind(self) -> None:
        registry = CollectorRegistry()
        async with scripted(BUSY) as server, chat_of(server, registry=registry) as chat:
            await kind_of_failure(chat.complete(HELLO, tokens_max=9))

        assert value_of(registry, "diptych_llm_failures_total", kind="overloaded") == 1


async def test_neither_the_key_nor_a_foreign_message_is_logged_or_raised(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[Answer | type[Broken]] = [
        refused(401, code=f"bad {KEY}", type="invalid_request_error"),
        refused(500),
        Broken,
        Answer(200, KEY.encode()),
    ]
    raised: list[str] = []
    with structlog.testing.capture_logs() as events:
        for answer in answers:
            async with scripted(answer) as server, chat_of(server, retries=0) as chat:
                with pytest.raises(ChatFailed) as caught:
                    await chat.complete(HELLO, tokens_max=9)
                raised += [repr(caught.value), repr(caught.value.__cause__), repr(vars(chat))]

    assert [shown(event) for event in events] == [
        ("error", "misconfigured", "status 401, invalid_request_error"),
        ("warning", "server_error", "status 500"),
        ("warning", "unreachable", "ClientPayloadError"),
        ("warning", "malformed", "the answer is no chat completion"),
    ]
    everything = " ".join([*raised, *map(repr, events), caplog.text])
    assert KEY not in everything
    assert "Who was there" not in everything


async def test_a_closed_client_asks_nothing() -> None:
    async with scripted(GOOD) as server, chat_of(server) as chat:
        await chat.complete(HELLO, tokens_max=9)
        await chat.close()
        await chat.close()
        with pytest.raises(RuntimeError, match="closed"):
            await chat.complete(HELLO, tokens_max=9)

        assert len(server.asked) == 1


def shown(event: EventDict) -> tuple[str, str, str]:
    assert event["event"] == "llm_call_failed"
    return event["log_level"], event["kind"], event["detail"]


async def kind_of_failure(call: Any) -> Failure | None:
    try:
        await asyncio.wait_for(call, WAIT_S)
    except ChatFailed as error:
        return error.kind
    return None


def value_of(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)

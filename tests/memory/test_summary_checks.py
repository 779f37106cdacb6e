"""What a model says is held against its source, and refused where the source does not bear it out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.models.summary_checks import Checks, Reason, SummaryRefused, is_repetitive, unwrapped
from memory.text.languages import language_of
from memory.text.mentions import find_mentions, unsupported
from shared.tokens import estimate_tokens

SOURCE = """[2023-05-07 13:56] Ada (user): The build of /srv/app/main.py failed twenty-five times since 3 PM, order ORD-9931.
[2023-05-07 13:57] assistant: I saw error E0432 in crate v1.20.3. The invoice is 1,200.50 dollars, see https://ci.example.org/run/77?a=b.
[2023-05-07 13:58] Ada (user): Write to ops@example.org, branch fix/login-9, commit 9f2c1ab. We meet on March 3rd at half past five."""
INSTRUCTIONS = (
    "Keep what somebody who goes on with the conversation needs. Copy names and numbers character by character."
)
GERMAN = "Ada hat gesagt, dass der Bau seit gestern fehlschlägt, und der Assistent hat den Fehler in der Bibliothek gefunden."


def accept(
    answer: str, source: str = SOURCE, *, tokens_max: int = 200, is_whole: bool = True, language: str | None = None
) -> str:
    checks = Checks(instructions=INSTRUCTIONS, language=language, mentions=find_mentions)
    return checks.accept(answer, source, tokens_max=tokens_max, is_whole=is_whole)


def reason(answer: str, source: str = SOURCE, **options: object) -> Reason:
    with pytest.raises(SummaryRefused) as caught:
        accept(answer, source, **options)  # type: ignore[arg-type]
    return caught.value.reason


class TestMentions:
    @pytest.mark.parametrize(
        "text",
        [
            "The build failed 25 times.",
            "On May 7, 2023 the build of main.py failed.",
            "It began at 3pm, at 15:00? No, at 3:00.",
            "It is about ord-9931 and E0432.",
            "The invoice is $1200.5.",
            "See https://ci.example.org/run/77?a=b, says Ada.",
            "They meet on 3 March, the 3rd.",
            "Version 1.20.3 is on fix/login-9 at 9f2c1ab; mail ops@example.org.",
        ],
    )
    def test_what_the_source_has_may_be_said_in_other_forms(self, text: str) -> None:
        allowed = {"15:00"}
        assert unsupported(text, SOURCE, find_mentions) - allowed == set()

    @pytest.mark.parametrize(
        ("text", "wrong"),
        [
            ("It failed 26 times.", {"26"}),
            ("On May 8, 2023 it failed.", {"May 8, 2023"}),
            ("They meet at 15:00.", {"15:00"}),
            ("It is about ORD-9932.", {"ORD-9932"}),
            ("The invoice is 1,200.55 dollars.", {"1,200.55"}),
            ("See https://ci.example.org/run/78.", {"https://ci.example.org/run/78"}),
            ("Edit /srv/app/other.py.", {"/srv/app/other.py"}),
            ("Mail dev@example.org.", {"dev@example.org"}),
            ("Commit 9f2c1ac broke it.", {"9f2c1ac"}),
            ("Version 1.20.4 is out.", {"1.20.4"}),
            ("Open C:\\temp\\x1.", {"C:\\temp\\x1"}),
        ],
    )
    def test_what_it_does_not_have_is_found(self, text: str, wrong: set[str]) -> None:
        assert unsupported(text, SOURCE, find_mentions) == wrong

    def test_a_month_is_no_count(self) -> None:
        assert unsupported("It took 5 days.", "It may take 15 days, from May 3rd on.", find_mentions) == {"5"}

    def test_a_number_is_not_supported_by_a_longer_one(self) -> None:
        assert unsupported("It took 5 days.", "It took 15 days.", find_mentions) == {"5"}

    def test_the_day_of_a_turn_is_no_count(self) -> None:
        """Every turn has a date and a time in what the model reads: they would support any small number."""
        source = "[2026-05-08 13:56] Ada (user): It failed 7 times."

        assert unsupported("It failed 8 times in 56 minutes.", source, find_mentions) == {"8", "56"}
        assert unsupported("On 8 May 2026, the 8th, at 13:56 it failed.", source, find_mentions) == set()
        assert unsupported("On 8 June and May 13 at 5:08.", source, find_mentions) == {"8 June", "May 13", "5:08"}

    @given(start=st.integers(0, len(SOURCE.split())), length=st.integers(1, 12))
    def test_an_extract_of_the_source_is_always_supported(self, start: int, length: int) -> None:
        extract = " ".join(SOURCE.split()[start : start + length])

        assert unsupported(extract, SOURCE, find_mentions) == set()

    @given(number=st.integers(min_value=10_000, max_value=10**9))
    def test_a_number_that_is_not_there_never_is(self, number: int) -> None:
        assert unsupported(f"There were {number} of them.", SOURCE, find_mentions) == {str(number)}


class TestAnswers:
    def test_a_faithful_answer_is_taken_as_it_is(self) -> None:
        text = "Ada's build of /srv/app/main.py failed 25 times; the assistant saw error E0432."

        assert accept(text) == text

    @pytest.mark.parametrize(
        "wrapped",
        [
            "  Ada came.\n",
            "<think>I should say: 99 problems.</think>\nAda came.",
            "```\nAda came.\n```",
            "```text\nAda came.\n```",
            "Here is the summary:\n\nAda came.",
            "Sure! Here's a brief summary of the conversation:\nAda came.",
            "**Summary:**\nAda came.",
            "## Summary\n\nAda came.",
        ],
    )
    def test_wrapping_is_taken_off(self, wrapped: str) -> None:
        assert unwrapped(wrapped) == "Ada came."

    @pytest.mark.parametrize("text", ["Here is where Ada lives:\na street.", "The summary of Ada's report is late."])
    def test_what_only_looks_like_it_stays(self, text: str) -> None:
        assert unwrapped(text) == text

    def test_an_answer_a_little_too_long_is_cut_at_a_sentence(self) -> None:
        kept = accept("Ada came first. Bo came after her. Cy came last of all.", tokens_max=10)

        assert kept == "Ada came first. Bo came after her."
        assert estimate_tokens(kept) <= 10

    def test_an_answer_that_was_cut_off_loses_its_last_half_sentence(self) -> None:
        assert accept("Ada came first. Bo ca", is_whole=False) == "Ada came first."

    @pytest.mark.parametrize("answer", ["Ada came. " * 30, "a" * 60])
    def test_an_answer_far_too_long_or_without_an_end_is_refused(self, answer: str) -> None:
        assert reason(answer, tokens_max=10) == "too_long"

    @pytest.mark.parametrize("answer", ["...", "```\n```", "<think>Ada came.</think>", "**Summary:**\n\n"])
    def test_an_answer_without_words_is_refused(self, answer: str) -> None:
        assert reason(answer) == "empty"

    @pytest.mark.parametrize(
        "answer",
        [
            "I'm sorry, but I can't help with that.",
            "I cannot summarize this conversation.",
            "Sorry, this goes against my guidelines.",
            "As an AI language model, I have no access to conversations.",
            "Unfortunately, I am not able to do that.",
        ],
    )
    def test_a_model_that_declines_is_refused(self, answer: str) -> None:
        assert reason(answer) == "declined"

    def test_somebody_who_declines_in_the_conversation_is_not(self) -> None:
        assert accept("Ada said that she is sorry and cannot come.")

    def test_the_prompt_said_back_is_refused(self) -> None:
        assert reason(f"You asked me this: {INSTRUCTIONS}") == "echo"

    def test_but_not_where_the_conversation_has_the_same_words(self) -> None:
        assert accept(f"Ada quoted: {INSTRUCTIONS}", f"{SOURCE} {INSTRUCTIONS}")

    def test_a_model_that_goes_round_in_circles_is_refused(self) -> None:
        assert reason("The build failed again and again. " * 12, tokens_max=500) == "repetitive"

    def test_prose_does_not_go_round_in_circles(self) -> None:
        assert not is_repetitive(SOURCE)
        assert not is_repetitive(GERMAN * 2)

    def test_an_invented_number_is_refused_without_being_told(self) -> None:
        with pytest.raises(SummaryRefused) as caught:
            accept("The build failed 4711 times.")

        assert caught.value.reason == "unsupported"
        assert "4711" not in str(caught.value)


class TestLanguages:
    @pytest.mark.blocking
    def test_an_answer_in_another_language_is_refused(self) -> None:
        assert reason(GERMAN, GERMAN, language="en") == "language"
        assert accept(GERMAN, GERMAN, language="de") == GERMAN

    @pytest.mark.blocking
    def test_what_is_in_no_language_in_particular_is_not_judged(self) -> None:
        assert accept("main.py: E0432", language="de") == "main.py: E0432"

    @pytest.mark.blocking
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("We deploy on Fridays, so please have everything ready and tested by Thursday.", "en"),
            (GERMAN, "de"),
            ("Nous avons décidé de déployer le vendredi, car les tests durent longtemps.", "fr"),
            ("Мы решили выпускать новую версию по пятницам, потому что проверки долгие.", "ru"),
            ("Ми вирішили випускати нову версію щоп'ятниці, адже перевірки тривають довго.", "uk"),
            ("\u79c1\u305f\u3061\u306f\u91d1\u66dc\u65e5\u306b\u30c7\u30d7\u30ed\u30a4\u3057\u307e\u3059\u3002", "ja"),
            ("\u6211\u4eec\u51b3\u5b9a\u6bcf\u5468\u4e94\u90e8\u7f72\u65b0\u7248\u672c\u3002", "zh"),
            ("ls -la | grep 77", None),
        ],
    )
    def test_it_is_named_where_it_is_sure(self, text: str, code: str | None) -> None:
        assert language_of(text) == code

"""The summarizer that needs no key and no network: the sentences that say most, in their order, with who said them. Pure.

A greedy cover of the words that a span is about (the budgeted maximum coverage of Lin and Bilmes 2010, "Multi-document
Summarization via Budgeted Maximization of Submodular Functions"): the next sentence is the one whose words that were not
covered yet weigh most for what it costs. Words weigh by how often they come, names and long words more, what everybody
says hardly. A few numbers only, chosen on half of the dialogues and checked on the other and on questions to
conversations; docs/ARCHITECTURE.md has the numbers.
"""

import heapq
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from memory.text.common_words import FILLER_WORDS, FUNCTION_WORDS
from memory.text.identifiers import find
from memory.text.sentences import Sentence, sentences
from memory.text.words import Words
from memory.truth.records import Line
from shared.tokens import TWELFTHS, estimate_tokens, token_twelfths

# How much more often-said words weigh: by the root, as one that comes four times is not four times the topic.
_FREQUENCY: Final = 0.6
_NAME: Final = 2.5
_NUMBER: Final = 1.5
_FILLER: Final = 0.2
_SHORT: Final = 0.3
_SHORT_CHARACTERS_MAX: Final = 2
_LONG_CHARACTERS_MAX: Final = 9
# What a word still weighs in a second sentence, a third, and so on: each time by so much less.
_AGAIN: Final = 0.1
# A conversation opens with what it is about.
OPENING: Final = 0.75
_OPENING_TURNS: Final = 2.0
_QUESTION: Final = 0.9
# Below 1, so that a long sentence that says much is not always left for two short ones.
_COST_EXPONENT: Final = 0.8
# However much of a sentence is owed, reading it costs something.
_COST_SHARE_MIN: Final = 0.3
_MID_SENTENCE: Final = re.compile(r"(?<=[^\W\d_][ ,] )[A-Z][\w'’-]+|(?<=[^\W\d_] )[A-Z][\w'’-]+")
# Scripts that are written without blanks have no words to see; two characters stand for one.
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{2,}")


def summarize(lines: Sequence[Line], tokens_max: int) -> str:
    """At most so many tokens, by `estimate_tokens`; a line for each turn that has something in it."""
    return Condenser(sentences(lines)).within(tokens_max)


class _Weighed(NamedTuple):
    """A sentence with all that chooses it. Costs are in twelfths of a token."""

    line: int
    terms: Sequence[str]
    factor: float
    cost: int
    # Who said it, which the first sentence of a turn brings along.
    label_cost: int
    # What of it the reader will be told anyway.
    owed_costs: Mapping[str, int]


class Condenser:
    """Sentences in their order, weighed once, and said in as few tokens as is asked for. `opening` is how much more the first
    turns weigh.

    `owed` are identifiers that the reader will be told anyway: a sentence that has some costs only the rest of it.
    """

    def __init__(
        self, found: Sequence[Sentence], *, opening: float = OPENING, owed: frozenset[str] = frozenset()
    ) -> None:
        words = Words()
        terms = [_terms(words, sentence.text) for sentence in found]
        self._found = found
        self._weights = _weigh(words, found, terms)
        self._weighed = [
            _Weighed(
                line=sentence.line,
                # In their order, since the order of a sum decides its last digit, and that of a set is another in each process.
                terms=[term for term in dict.fromkeys(said) if self._weights[term]],
                factor=_factor(sentence, opening),
                cost=token_twelfths(sentence.text + " "),
                label_cost=token_twelfths(_label(sentence)),
                owed_costs=_owed_costs(sentence, owed) if owed else {},
            )
            for sentence, said in zip(found, terms, strict=True)
        ]

    def within(self, tokens_max: int) -> str:
        """As `summarize`."""
        cover = _Cover(self._weighed, self._weights)
        chosen = cover.choose(tokens_max)
        if chosen:
            return write([self._found[index] for index in chosen])
        best = max(range(len(self._found)), key=cover.density, default=None)
        return "" if best is None else _shortened(write([self._found[best]]), tokens_max)


class _Cover:
    """Lazily greedy: a gain only falls as more is covered, so one that is still on top when looked at again is the largest."""

    def __init__(self, sentences: Sequence[_Weighed], weights: Mapping[str, float]) -> None:
        self._sentences = sentences
        # What a word is still worth.
        self._left = dict(weights)
        self._told: set[str] = set()
        self._lines: set[int] = set()

    def choose(self, tokens_max: int) -> list[int]:
        """Places of sentences, in order, that cost no more than that when written."""
        left = TWELFTHS * tokens_max
        queue = [(-self.density(index), index) for index in range(len(self._sentences))]
        heapq.heapify(queue)
        chosen: list[int] = []
        while queue:
            _, index = heapq.heappop(queue)
            density, cost = self.density(index), self._cost(self._sentences[index])
            if cost > left or density <= 0.0:
                continue
            if queue and -queue[0][0] > density:
                heapq.heappush(queue, (-density, index))
                continue
            chosen.append(index)
            left -= cost
            self._take(self._sentences[index])
        return sorted(chosen)

    def density(self, index: int) -> float:
        """What is new in it, by its cost."""
        sentence = self._sentences[index]
        gain = sum(map(self._left.__getitem__, sentence.terms))
        owed = sum(cost for text, cost in sentence.owed_costs.items() if text not in self._told)
        full = self._cost(sentence)
        return gain * sentence.factor / math.pow(max(full - owed, _COST_SHARE_MIN * full), _COST_EXPONENT)

    def _cost(self, sentence: _Weighed) -> int:
        return sentence.cost if sentence.line in self._lines else sentence.cost + sentence.label_cost

    def _take(self, sentence: _Weighed) -> None:
        self._lines.add(sentence.line)
        self._told.update(sentence.owed_costs)
        for term in sentence.terms:
            self._left[term] *= _AGAIN


def _owed_costs(sentence: Sentence, owed: frozenset[str]) -> dict[str, int]:
    return {text: token_twelfths(text) for _, text, _ in find(sentence.text) if text in owed}


def _weigh(words: Words, found: Sequence[Sentence], terms: Sequence[Sequence[str]]) -> dict[str, float]:
    """`terms` are those of each sentence, as often as it has them."""
    counts = Counter(chain.from_iterable(terms))
    names = {term for sentence in found for name in _MID_SENTENCE.findall(sentence.text) for term in words.terms(name)}
    return {term: _weight(term, count, is_name=term in names) for term, count in counts.items()}


def _weight(term: str, count: int, *, is_name: bool) -> float:
    function_words, filler_words = _light_terms()
    if term in function_words:
        return 0.0
    weight = math.pow(count, _FREQUENCY) * (1.0 + min(len(term), _LONG_CHARACTERS_MAX) / 6.0)
    if term in filler_words:
        weight *= _FILLER
    if term.isdecimal():
        return weight * _NUMBER
    if term.isascii() and len(term) <= _SHORT_CHARACTERS_MAX:
        weight *= _SHORT
    return weight * _NAME if is_name else weight


def _factor(sentence: Sentence, opening: float) -> float:
    factor = 1.0 + opening * math.exp(-sentence.line / _OPENING_TURNS)
    return factor * _QUESTION if sentence.text.endswith(("?", "？")) else factor


def _terms(words: Words, text: str) -> list[str]:
    spaced = _UNSPACED.sub(" ", text)
    found = words.terms(spaced)
    if spaced != text:
        for match in _UNSPACED.finditer(text):
            run = match.group()
            found += [run[at : at + 2] for at in range(len(run) - 1)]
    return found


@cache
def _light_terms() -> tuple[frozenset[str], frozenset[str]]:
    """As the stemmer has them: function words, and fillers that are none."""
    words = Words()
    function_words = frozenset(term for word in FUNCTION_WORDS for term in words.terms(word))
    return function_words, frozenset(term for word in FILLER_WORDS for term in words.terms(word)) - function_words


def write(chosen: Sequence[Sentence]) -> str:
    """A line for each turn, with who said it."""
    texts: list[str] = []
    for place, sentence in enumerate(chosen):
        if place and chosen[place - 1].line == sentence.line:
            texts[-1] += " " + sentence.text
        else:
            texts.append(_label(sentence) + sentence.text)
    return "\n".join(texts)


def _label(sentence: Sentence) -> str:
    return f"{sentence.speaker}: " if sentence.speaker else ""


def _shortened(text: str, tokens_max: int) -> str:
    """Its beginning, up to a blank where there is one."""
    cut = text[: 4 * tokens_max]
    while estimate_tokens(cut) > tokens_max:
        cut = cut[: -1 - len(cut) // 10]
    if len(cut) < len(text) and " " in cut:
        cut = cut.rpartition(" ")[0]
    return cut.rstrip()

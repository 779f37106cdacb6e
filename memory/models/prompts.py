"""The prompts that models are asked with: files with a version in their name, part of the package.

A prompt is never edited once it was released, because spans name the one that made them: a change is a new file. Text is
put in with `string.Template`, which does not look for placeholders in what it has put in, so no conversation can fill one.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Final

SUMMARIZE: Final = "summarize.v1"
EXTRACT: Final = "extract.v1"

# Between what the model is told by us, and what it is given.
_BREAK: Final = "\n---\n"
# English prose has some four words to five tokens (`shared.tokens`); a little less, because models overshoot.
_WORDS_OF_TOKEN: Final = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    name: str
    system: Template
    user: Template

    @property
    def instructions(self) -> str:
        """What an answer must not repeat."""
        return self.system.template

    def fill(self, conversation: str, *, tokens_max: int, language: str | None) -> tuple[str, str]:
        """What the system and what the user says. `language` is a code of ISO 639, or None where it is not known."""
        values = {
            "fence": fence_of(conversation),
            "tokens": str(tokens_max),
            "words": str(max(1, int(tokens_max * _WORDS_OF_TOKEN))),
            "language": "the language of the conversation" + (f" (ISO 639: {language})" if language else ""),
            "conversation": conversation,
        }
        return self.system.substitute(values), self.user.substitute(values)


def load_prompt(name: str) -> Prompt:
    """Reads a file: not on the event loop. Raises FileNotFoundError."""
    text = (files("memory.models") / "prompts" / f"{name}.md").read_text(encoding="utf-8")
    system, user = text.split(_BREAK)
    return Prompt(name=name, system=Template(system.strip()), user=Template(user.strip()))


def fence_of(text: str) -> str:
    """A tag that does not occur in `text`, the same for the same text. Nobody can close a fence whose name is a digest of
    all that stands in it."""
    return f"conversation-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"

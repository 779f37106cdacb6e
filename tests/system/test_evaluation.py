"""`diptych eval` as users run it: services started for the run, with the real model."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from diptych.evaluation.results import read_result
from tests.harness import PROCESS_WAIT_S, clean_environment, diptych_command

# Starting processes is blocking work of the test, not of the services.
pytestmark = pytest.mark.blocking

DOCUMENTS = {
    "keys": "Credentials are replaced every ninety days. The old ones stop working a week later.",
    "cats": "Felines spend most of the day asleep, preferably in a warm and sunny place.",
    "deploy": "Releases go out on Friday afternoon after the smoke tests have passed.",
}
# None of these shares a telling word with its answer.
QUERIES = {
    "keys": "how often must passwords be rotated?",
    "cats": "what do kittens like to do?",
    "deploy": "when do we ship?",
}


async def run(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *diptych_command("eval", *arguments), stderr=asyncio.subprocess.PIPE, env=clean_environment()
    )
    try:
        async with asyncio.timeout(PROCESS_WAIT_S):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_a_change_that_makes_searches_worse_is_caught_by_services_started_for_it(tmp_path: Path) -> None:
    folder, kept, baseline = tmp_path / "guides", tmp_path / "kept", tmp_path / "baseline.json"
    folder.mkdir()
    encoder = msgspec.json.Encoder()
    for name, texts in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = [{"_id": each, "text": text} for each, text in texts.items()]
        (folder / f"{name}.jsonl").write_bytes(encoder.encode_lines(lines))
    (folder / "qrels.tsv").write_text("".join(f"{each}\t{each}\t1\n" for each in DOCUMENTS))
    arguments = ("retrieval", "--dataset", str(folder), "--start", "--keep", str(kept), "-k", "1")

    code, err = await run(*arguments, "--output", str(baseline))
    assert code == 0, err
    result = read_result(baseline)
    assert result.overall["nDCG@1"].mean == 1.0
    assert result.services[0].details["model"] == "all-MiniLM-L6-v2"

    code, err = await run(*arguments, "--reuse", "--mode", "lexical", "--baseline", str(baseline))
    assert code == 4, err
    assert "1.000 to 0.000  keys  how often must passwords be rotated?" in err

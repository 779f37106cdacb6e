"""`diptych jobs`: list, show, watch, cancel and retry."""

from pathlib import Path

from tests.diptych.command import Shell
from tests.harness import running_retrieval
from tests.retrieval.test_batcher import GatedEmbedder, batches
from tests.retrieval.test_jobs import FailingEmbedder


async def test_a_failed_document_is_shown_and_queued_again(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, embedder=FailingEmbedder(1), ingest_attempts_max=1) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        answer = await running.client.ingest("docs", [{"id": "a", "text": "broken"}])

        listed = await shell.run("--json", "jobs", "list", "--status", "failed")
        shown = await shell.run("jobs", "show", answer.job.id)
        watched = await shell.run("jobs", "watch", answer.job.id)
        retried = await shell.run("--json", "jobs", "retry", answer.job.id)
        followed = await shell.run("--json", "jobs", "watch", answer.job.id)

    assert [job["id"] for job in listed.json["items"]] == [answer.job.id]
    assert (shown.code, watched.code, retried.code, followed.code) == (0, 1, 0, 0)
    assert "1 of them kept" in shown.out
    assert "failed a: the model failed: the model broke" in watched.err
    assert retried.json["status"] == "queued"
    assert '"kind":"done"' in followed.out.splitlines()[-1]


async def test_a_running_job_is_cancelled(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        answer = await running.client.ingest("docs", [{"id": "a", "text": "a"}], wait=False)
        await batches(embedder, 1)

        cancelled = await shell.run("--json", "jobs", "cancel", answer.job.id)
        embedder.let(100)
        missing = await shell.run("jobs", "cancel", "missing")

    assert (cancelled.code, cancelled.json["status"], missing.code) == (0, "cancelled", 1)

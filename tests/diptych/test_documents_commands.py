"""`diptych ingest` and `diptych search`: what they print, what they count, and how they end."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from diptych.ports import free_ports
from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from shared.retrieval_messages import Chunking, CollectionSpec, SearchAnswer
from shared.vectors import Float32Array
from shared.wire import JSON, decode
from tests.diptych.command import Shell
from tests.harness import RunningRetrieval, make_key, running_retrieval
from tests.retrieval import files

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "ports.md").write_text("# Ports\n\nMemory listens on port 7802.\n", encoding="utf-8")
    (folder / "keys.txt").write_text("Keys are made with keys create.", encoding="utf-8")
    (folder / "deep" / "page.html").write_text("<title>Crash</title><p>Nothing is lost.</p>", encoding="utf-8")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.md").write_text("hidden", encoding="utf-8")
    return folder


def counts(created: int = 0, replaced: int = 0, unchanged: int = 0, failed: int = 0) -> dict[str, int]:
    return {"created": created, "replaced": replaced, "unchanged": unchanged, "failed": failed}


async def test_ingesting_again_replaces_what_changed_and_skips_the_rest(shell: Shell, folder: Path) -> None:
    first = await shell.run_process("--json", "ingest", str(folder), "-c", "notes")
    (folder / "ports.md").write_text("# Ports\n\nMemory listens on port 7803.\n", encoding="utf-8")
    second = await shell.run("--json", "ingest", str(folder), "-c", "notes")
    third = await shell.run("ingest", str(folder), "-c", "notes")

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert first.json == {"collection": "notes", **counts(created=3), "skipped": 1, "failures": []}
    assert second.json == {"collection": "notes", **counts(replaced=1, unchanged=2), "skipped": 1, "failures": []}
    assert third.out == "notes: 0 created, 0 replaced, 3 unchanged, 0 failed; 1 skipped (unknown kind)\n"


async def test_documents_are_named_by_their_path_and_keep_their_kind(
    shell: Shell, retrieval: RunningRetrieval, folder: Path
) -> None:
    await shell.run("ingest", str(folder))

    found = (await retrieval.client.documents("default")).items
    assert [(each.id, each.uri, each.content_type) for each in found] == [
        ("docs/deep/page.html", "docs/deep/page.html", "text/html"),
        ("docs/keys.txt", "docs/keys.txt", "text/plain"),
        ("docs/ports.md", "docs/ports.md", "text/markdown"),
    ]


class Refusing(HashEmbedder):
    """A model that breaks on one word."""

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        if any("lost" in text for text in texts):
            raise RuntimeError("out of memory")
        return super().embed(texts, kind)


async def test_a_document_that_fails_is_told_and_the_others_are_stored(tmp_path: Path, folder: Path) -> None:
    # Batches of one text, so that the model breaks on that one alone.
    async with running_retrieval(
        tmp_path,
        embedder=Refusing(),
        embed_batch_tokens_max=256,
        ingest_documents_in_flight_max=1,
        ingest_attempts_max=1,
    ) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        found = await shell.run("--json", "ingest", str(folder))
        text = await shell.run_process("ingest", str(folder))

    assert (found.code, text.code) == (1, 1)
    failures = found.json.pop("failures")
    assert [(each["id"], "out of memory" in each["message"]) for each in failures] == [("docs/deep/page.html", True)]
    assert text.out == "default: 0 created, 0 replaced, 2 unchanged, 1 failed; 1 skipped (unknown kind)\n"
    assert "docs/deep/page.html  the model failed: out of memory" in text.err


async def test_documents_that_the_server_refuses_are_named_and_the_others_are_stored(
    shell: Shell, folder: Path
) -> None:
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    (folder / "two\nlines.md").write_text("a name that is no id", encoding="utf-8")

    done = await shell.run("--json", "ingest", str(folder))

    assert done.code == 1
    failures = {each["id"]: each["message"] for each in done.json["failures"]}
    assert failures.keys() == {"docs/latin.txt", "docs/two\nlines.md"}
    assert failures["docs/latin.txt"].startswith("not valid utf-8")
    assert {status: done.json[status] for status in counts()} == counts(created=3, failed=2)


async def test_a_collection_that_may_not_be_is_wrong_usage(shell: Shell, folder: Path) -> None:
    done = await shell.run("ingest", str(folder), "-c", "x" * 257)

    assert (done.code, done.out) == (2, "")
    assert "Error: path.collection: Expected `str` of length <= 256\n" in done.err


async def test_more_files_than_one_batch_holds_are_all_ingested(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(70):
        (folder / f"{number:02}.txt").write_text(f"number {number}", encoding="utf-8")

    assert (await shell.run("ingest", str(folder), "--json")).json["created"] == 70


async def test_an_ingest_that_takes_longer_than_the_server_waits_is_waited_for(tmp_path: Path, folder: Path) -> None:
    async with running_retrieval(tmp_path, ingest_wait_timeout_s=0.0001) as running:
        done = await Shell({"DIPTYCH_RETRIEVAL_URL": running.url}).run("--json", "ingest", str(folder))

    assert (done.code, done.json["created"], done.json["failures"]) == (0, 3, [])


async def test_a_search_finds_the_passage_and_says_where_it_is(shell: Shell, folder: Path) -> None:
    await shell.run("ingest", str(folder), "-c", "notes")

    text = await shell.run_process("search", "which port", "-n", "1", "--explain")
    as_json = await shell.run("--json", "search", "which port", "-c", "notes", "--mode", "lexical", "--explain")

    assert (text.code, as_json.code) == (0, 0)
    assert text.lines[0].startswith("1. Ports")
    assert "lexical" in text.lines[0]
    assert text.lines[1].strip().startswith("notes/docs/ports.md characters ")
    assert "Memory listens on port 7802." in text.out
    answer = decode(as_json.out.encode(), JSON, SearchAnswer)
    assert [hit.document_id for hit in answer.hits] == ["docs/ports.md"]
    assert answer.plan is not None
    assert (answer.plan.mode, answer.plan.collections[0].collection) == ("lexical", "notes")


async def test_a_search_groups_varies_leaves_out_and_packs(shell: Shell, retrieval: RunningRetrieval) -> None:
    said = " ".join(f"word{number}" for number in range(25))
    await retrieval.client.put_collection("notes", CollectionSpec(chunking=Chunking(max_tokens=32)))
    for name in ("first", "second"):
        text = f"{said}\n\n" + " ".join(f"word{number} {name}{number}" for number in range(15))
        await retrieval.client.ingest("notes", [{"id": name, "text": text}])

    async def found(*options: str) -> list[tuple[str, int]]:
        done = await shell.run("--json", "search", "word1 word2", "-n", "9", *options)
        assert done.code == 0, done.err
        hits = decode(done.out.encode(), JSON, SearchAnswer).hits
        return [(hit.document_id, len(hit.duplicates or [])) for hit in hits]

    assert len(await found()) == 4
    assert sorted(await found("--group-by-document")) == [("first", 0), ("second", 0)]
    assert sorted(count for _, count in await found("--no-duplicates")) == [0, 0, 1]
    assert sorted(await found("--diversity", "0.5")) == sorted(await found())
    packed = await shell.run("search", "word1 word2", "--no-duplicates", "--max-tokens", "1000")
    assert "1 more say nearly the same" in packed.out
    assert f"\n{said}\n" in packed.out
    refused = await shell.run("search", "word1", "--diversity", "2")
    assert (refused.code, "$.mmr.diversity" in refused.err) == (2, True)
    without_model = await shell.run("search", "word1", "--rerank")
    assert (without_model.code, "may rerank with none" in without_model.err) == (2, True)


async def test_a_search_that_finds_nothing_says_so_and_is_no_failure(shell: Shell) -> None:
    text, as_json = await shell.run("search", "anything"), await shell.run("search", "anything", "--json")

    assert (text.code, text.out) == (0, "No passages found.\n")
    assert (as_json.code, as_json.json["hits"]) == (0, [])


async def test_names_with_the_signs_of_markup_are_shown_as_they_are(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]"
    folder.mkdir()
    (folder / "[red]a.txt").write_text("text with [/nothing] in [link=x]it", encoding="utf-8")

    ingested = await shell.run("ingest", str(folder), "-c", "[/notes]")
    found = await shell.run("search", "text", "-c", "[/notes]")
    missing = await shell.run("search", "text", "-c", "[/other]")

    assert ingested.out.startswith("[/notes]: 1 created")
    assert "[/notes]/[bold]/[red]a.txt characters 0-" in found.out
    assert "text with [/nothing] in [link=x]it" in found.out
    assert (missing.code, missing.err) == (1, "Error: there is no collection '[/other]'\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search", "x", "-c", "none"], 1, "there is no collection 'none'"),
        (["search", "x", "-n", "0"], 2, "$.limit: Expected `int` >= 1"),
        (["search", " "], 2, "$.query: "),
    ],
)
async def test_what_the_service_refuses_ends_with_a_readable_line(
    shell: Shell, arguments: list[str], code: int, words: str
) -> None:
    done = await shell.run("--json", *arguments)

    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("Error: ")
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", [["search", "x"], ["info"], ["ingest", "README.md"]])
async def test_a_service_that_does_not_run_is_unreachable(command: list[str]) -> None:
    (port,) = free_ports(1)
    done = await Shell({"DIPTYCH_RETRIEVAL_URL": f"http://127.0.0.1:{port}"}).run(*command)

    assert (done.code, done.out) == (3, "")
    assert f"Error: http://127.0.0.1:{port} cannot be reached" in done.err
    assert "Is it running? `diptych up` starts both services." in done.err


async def test_a_key_is_sent_from_the_option_or_the_environment(shell: Shell, tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme", "retrieval:read")

    without = await shell.run("search", "x")
    with_option = await shell.run("--api-key", token, "search", "x")
    with_variable = await Shell({**shell.variables, "DIPTYCH_API_KEY": token}).run("search", "x")
    not_enough = await shell.run("--api-key", token, "ingest", "README.md")

    assert (without.code, with_option.code, with_variable.code, not_enough.code) == (1, 0, 0, 1)
    assert "send `Authorization: Bearer KEY`" in without.err
    assert "this key lacks the scope 'retrieval:write'" in not_enough.err
    assert token not in without.err + with_option.out + with_option.err + not_enough.err


async def test_a_filter_narrows_a_search_and_chooses_what_is_deleted(shell: Shell, retrieval: RunningRetrieval) -> None:
    documents = [
        {"id": f"d{year}", "text": "the same words", "metadata": {"year": year}} for year in (2019, 2020, 2021)
    ]
    await retrieval.client.ingest("notes", documents)

    found = await shell.run("--json", "search", "same words", "--filter", '{"year": {"$gte": 2020}}')
    refused = await shell.run("search", "same words", "--filter", '{"year": {"$gte": null}}')
    wrong = await shell.run("search", "same words", "--filter", "[1]")
    deleted = await shell.run("delete", "-c", "notes", "--filter", '{"year": 2019}')
    by_id = await shell.run("--json", "delete", "-c", "notes", "d2020", "d1")
    nothing = await shell.run("delete", "-c", "notes")

    assert {hit.document_id for hit in decode(found.out.encode(), JSON, SearchAnswer).hits} == {"d2020", "d2021"}
    assert (refused.code, wrong.code, nothing.code) == (2, 2, 2)
    assert "$.filter.year.$gte" in refused.err
    assert deleted.out == "notes: 1 deleted\n"
    assert by_id.json == {"deleted": 1}
    assert [each.id for each in (await retrieval.client.documents("notes")).items] == ["d2021"]


async def test_a_folder_of_many_kinds_is_ingested_and_what_fails_stands_in_a_table(
    shell: Shell, retrieval: RunningRetrieval, folder: Path
) -> None:
    made = {
        "handbook.pdf": files.pdf(),
        "talk.pptx": files.slides(),
        "code.py": b"def f(): ...",
        "locked.pdf": files.encrypted_pdf(),
        "really.pdf": b"just text",
        "latin.csv": b"caf\xe9,1",
        "nothing.txt": b"",
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    (folder / "gone.md").symlink_to(folder / "nowhere.md")

    done = await shell.run("ingest", str(folder))

    assert done.code == 1
    assert done.out == "default: 6 created, 0 replaced, 0 unchanged, 4 failed; 1 skipped (unknown kind)\n"
    rows = [line.split(maxsplit=1) for line in done.err.splitlines() if line.startswith("docs/")]
    reasons = {row[0]: row[1].strip() for row in rows}
    assert reasons.keys() == {"docs/latin.csv", "docs/locked.pdf", "docs/nothing.txt", "docs/really.pdf"}
    assert reasons["docs/locked.pdf"] == "encrypted: remove the password"
    assert "looks like plain text, not like application/pdf" in reasons["docs/really.pdf"]
    assert (await retrieval.client.document("default", "docs/handbook.pdf")).title == "Handbook"


async def test_a_file_that_this_machine_does_not_let_us_read_fails_and_the_rest_goes_on(
    shell: Shell, folder: Path
) -> None:
    # Permissions do not stop root; this is a file that nobody can read from its start.
    (folder / "broken.md").symlink_to("/proc/self/mem")

    done = await shell.run("--json", "ingest", str(folder))

    assert (done.code, done.json["created"], done.json["failed"]) == (1, 3, 1)
    assert "cannot be read here" in done.json["failures"][0]["message"]


async def test_a_large_file_is_uploaded_and_one_that_is_too_large_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.html").write_bytes(b"<p>needle</p><!--" + b"x" * 2_100_000 + b"-->")
    (folder / "b.html").write_bytes(b"<p>needle</p><!--" + b"x" * 2_300_000 + b"-->")
    (folder / "c.txt").write_bytes(b"small")

    async with running_retrieval(tmp_path / "data", body_bytes_max=1_000_000, content_bytes_max=2_200_000) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        done = await shell.run("--json", "ingest", str(folder))

    assert (done.code, done.json["created"], done.json["failed"]) == (1, 2, 1)
    (failure,) = done.json["failures"]
    assert failure["id"] == "docs/b.html"
    assert "content_bytes_max" in failure["message"]

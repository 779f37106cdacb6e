"""Files by form and by message: the same documents, each failing alone, within limits that are named."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from diptych import RetrievalClient
from shared.errors import InvalidFields, Overloaded, TooLarge
from shared.retrieval_messages import IngestAnswer
from tests.harness import RunningRetrieval, raw_session, running_retrieval, until
from tests.retrieval import files

PDF = "application/pdf"


@pytest.fixture(scope="module", autouse=True)
def made() -> dict[str, bytes]:
    """Made before anything asynchronous runs: the libraries read templates from disk."""
    return {
        "handbook.pdf": files.pdf(),
        "handbook.docx": files.word(),
        "talk.pptx": files.slides(),
        "limits.xlsx": files.workbook(),
    }


async def post(running: RunningRetrieval, form: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    async with (
        raw_session(running.url) as session,
        session.post("/v1/collections/docs/files", data=form, headers=headers) as response,
    ):
        return response.status, await response.json(content_type=None)


def form_of(*parts: tuple[str, Any, dict[str, Any]]) -> FormData:
    form = FormData(quote_fields=False, default_to_multipart=True)
    form.add_field("wait", "true")
    for name, value, options in parts:
        form.add_field(name, value, **options)
    return form


def statuses(answer: IngestAnswer) -> dict[str, str]:
    return {result.id: result.error or result.status for result in answer.results or ()}


async def test_files_of_every_kind_are_found_under_their_headings(
    retrieval: RunningRetrieval, made: dict[str, bytes]
) -> None:
    extra = {
        "page.html": b"<title>Page</title><h1>Cats</h1><p>A cat sleeps.</p>",
        "notes.md": b"# Notes\n\nA dog barks.",
        "plain.txt": b"A bird sings.",
        "rows.csv": b"animal,sound\nfrog,croaks\n",
        "data.json": b'{"animal": "horse", "sound": "neighs"}',
        "log.jsonl": b'{"animal": "owl"}\n',
        "code.py": b"def moo():\n    return 'cow'\n",
    }

    answer = await retrieval.client.upload("docs", list((made | extra).items()), metadata={"batch": 7})

    assert statuses(answer) == dict.fromkeys(made | extra, "created")
    hits = (await retrieval.client.search("ninety days", collection="docs", mode="lexical", limit=5)).hits
    places = {hit.document_id: (hit.headings, hit.page) for hit in hits}
    assert places["handbook.pdf"] == (["Handbook", "Rotating keys"], 1)
    assert places["handbook.docx"] == (["Rotating keys"], None)
    assert places["talk.pptx"] == (["Slide 1: Rotating keys"], None)
    assert {hit.metadata["batch"] for hit in hits} == {7}
    (cow,) = (await retrieval.client.search("cow", collection="docs", mode="lexical")).hits
    assert (cow.document_id, cow.uri, cow.headings) == ("code.py", "code.py", ["moo"])
    for name in made | extra:
        document = await retrieval.client.document("docs", name)
        assert document.passages
        assert all(document.text[each.start : each.end] == each.text for each in document.passages)


async def test_every_piece_of_a_long_table_is_found_by_its_columns(retrieval: RunningRetrieval) -> None:
    rows = "".join(f"host{number},{number % 7} open tickets\n" for number in range(400))

    await retrieval.client.upload("docs", [("hosts.csv", f"server name,workload\n{rows}".encode())])

    document = await retrieval.client.document("docs", "hosts.csv")
    first, *others = document.passages
    assert len(others) > 5
    assert first.context is None
    assert {each.context for each in others} == {"| server name | workload |"}
    (hit,) = (await retrieval.client.search("workload host399", collection="docs", mode="lexical", limit=1)).hits
    assert "host399" in hit.text
    assert hit.context == "| server name | workload |"


async def test_what_cannot_be_read_fails_alone_with_its_reason(
    retrieval: RunningRetrieval, made: dict[str, bytes]
) -> None:
    answer = await retrieval.client.upload(
        "docs",
        [
            ("good.pdf", made["handbook.pdf"]),
            ("locked.pdf", await asyncio.to_thread(files.encrypted_pdf)),
            ("scan.pdf", await asyncio.to_thread(files.scanned_pdf)),
            ("cut.docx", made["handbook.docx"][:2000]),
            ("laughs.docx", await asyncio.to_thread(files.billion_laughs)),
            ("empty.txt", b""),
            ("photo.png", b"\x89PNG\r\n\x1a\n\x00\xff"),
            ("sparse.xlsx", await asyncio.to_thread(files.sparse_workbook)),
            ("good.txt", b"fine"),
        ],
    )

    found = statuses(answer)
    assert (found.pop("good.pdf"), found.pop("good.txt")) == ("created", "created")
    assert found.pop("locked.pdf") == "encrypted: remove the password"
    assert found.pop("scan.pdf") == "empty: no text was found; scanned pages need OCR first"
    assert found.pop("cut.docx").startswith("broken: ")
    assert "declares a document type" in found.pop("laughs.docx")
    assert found.pop("empty.txt") == "empty: there is nothing in it"
    assert "a PNG image" in found.pop("photo.png")
    assert "convert_memory_bytes_max" in found.pop("sparse.xlsx")
    assert (found, answer.job.failed, answer.job.status) == ({}, 7, "succeeded")


@pytest.mark.parametrize("media", ["application/json", "application/msgpack"])
async def test_content_in_a_message_is_read_like_an_upload(
    retrieval: RunningRetrieval, made: dict[str, bytes], media: str
) -> None:
    content = made["handbook.docx"]
    if media == "application/json":
        body = {"documents": [{"id": "a.docx", "content": base64.b64encode(content).decode()}], "wait": True}
        async with (
            raw_session(retrieval.url) as session,
            session.post("/v1/collections/docs/documents", json=body) as response,
        ):
            assert response.status == 200
    else:
        await retrieval.client.ingest("docs", [{"id": "a.docx", "content": content}])

    document = await retrieval.client.document("docs", "a.docx")
    assert (document.title, document.content_type.rpartition(".")[2]) == ("Handbook", "document")


async def test_the_same_upload_again_is_unchanged(retrieval: RunningRetrieval, made: dict[str, bytes]) -> None:
    upload = [("handbook.pdf", made["handbook.pdf"])]
    await retrieval.client.upload("docs", upload)

    assert statuses(await retrieval.client.upload("docs", upload)) == {"handbook.pdf": "unchanged"}


async def test_one_file_may_be_named_and_described(retrieval: RunningRetrieval, tmp_path: Path) -> None:
    path = tmp_path / "a b \u00e9.md"
    await asyncio.to_thread(path.write_text, "# Own title\n\nx", encoding="utf-8")

    await retrieval.client.upload("docs", [path], document_id="guides/a", title="Given", metadata={"deep": {"x": [1]}})
    unnamed = await retrieval.client.upload("docs", [path])

    document = await retrieval.client.document("docs", "guides/a")
    assert (document.title, document.uri, document.metadata) == ("Given", path.name, {"deep": {"x": [1]}})
    assert statuses(unnamed) == {path.name: "created"}


async def test_without_wait_the_job_is_answered_at_once(retrieval: RunningRetrieval) -> None:
    form = FormData()
    form.add_field("file", b"hello", filename="a.txt")

    status, answer = await post(retrieval, form)

    assert (status, answer["job"]["total"]) == (202, 1)


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ([], "$.file"),
        ([("flie", b"x", {"filename": "a.txt"})], "$.flie"),
        ([("file", b"x", {"filename": "a.txt"}), ("colour", "red", {})], "$.colour"),
        ([("file", "x", {})], "$.file[0]"),
        ([("file", b"x", {"filename": "a.txt"}), ("file", b"y", {"filename": "n" * 300})], "$.file[1]"),
        ([("file", b"x", {"filename": "a"}), ("file", b"x", {"filename": "b"}), ("id", "c", {})], "$.id"),
        ([("file", b"x", {"filename": "a"}), ("id", "a", {}), ("id", "b", {})], "$.id"),
        ([("file", b"x", {"filename": "a"}), ("metadata", "{", {})], "$.metadata"),
        ([("file", b"x", {"filename": "a"}), ("metadata", "[1]", {})], "$.metadata"),
        ([("file", b"x", {"filename": "a"}), ("title", "t" * 1025, {})], "$.title"),
        ([("file", b"x", {"filename": "a"}), ("title", b"\xff", {"filename": "t"})], "$.title"),
        ([("file", b"x", {"filename": "a", "content_type": "text/plain; charset=klingon"})], "$.file[0].content_type"),
    ],
)
async def test_a_bad_form_names_the_field_and_stores_nothing(
    retrieval: RunningRetrieval, parts: list[tuple[str, Any, dict[str, Any]]], path: str
) -> None:
    status, problem = await post(retrieval, form_of(*parts))

    assert (status, [error["path"] for error in problem["errors"]]) == (422, [path])
    assert (await retrieval.client.collections()).items == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"--x\r\n", "multipart/form-data", 400),
        (b"no boundary at all", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut', "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n", "multipart/form-data; boundary=x", 400),
    ],
)  # fmt: skip
async def test_what_is_no_form_is_refused(
    retrieval: RunningRetrieval, body: bytes, content_type: str, status: int
) -> None:
    found, problem = await post(retrieval, body, **{"Content-Type": content_type})

    assert (found, problem["status"]) == (status, status)


async def test_limits_of_uploads_are_named_and_hold_to_the_byte(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, content_bytes_max=1000, upload_bytes_max=1500) as running:
        client = running.client
        assert statuses(await client.upload("docs", [("a.txt", b"x" * 1000), ("b.txt", b"x" * 500)]))
        with pytest.raises(TooLarge, match=r"'c.txt' is larger than 1000 bytes \(content_bytes_max"):
            await client.upload("docs", [("c.txt", b"x" * 1001)])
        with pytest.raises(TooLarge, match=r"larger than 1500 bytes together \(upload_bytes_max"):
            await client.upload("docs", [("c.txt", b"x" * 1000), ("d.txt", b"x" * 501)])
        with pytest.raises(InvalidFields, match="content_bytes_max"):
            await client.ingest("docs", [{"id": "c", "content": b"x" * 1001}])
        assert (await client.collection("docs")).documents == 2


async def test_an_upload_may_be_larger_than_other_bodies(retrieval: RunningRetrieval) -> None:
    large = b"<html><p>needle</p><!--" + b"filler" * 3_000_000 + b"-->"

    answer = await retrieval.client.upload("docs", [("large.html", large)], timeout_s=60)

    assert len(large) > retrieval.settings.body_bytes_max
    assert statuses(answer) == {"large.html": "created"}


async def test_however_a_file_arrives_it_is_read_whole(retrieval: RunningRetrieval) -> None:
    """In pieces shorter than the boundary and longer than what is read at once, split inside of the boundary too."""
    text = b"needle " + b"x" * 200_000 + b" pin"
    boundary = b"a-boundary-of-some-length"
    end = b"\r\n--" + boundary + b"--\r\n"

    async def pieces() -> Any:
        yield b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for piece in (text[:10], text[10:13], text[13:] + end[:7], end[7:]):
            await asyncio.sleep(0.05)  # so that it is read as it was sent
            yield piece

    status, _ = await post(
        retrieval, pieces(), **{"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    )

    assert status == 202

    async def is_stored() -> bool:
        return (await retrieval.client.collection("docs")).documents == 1

    await until(is_stored)
    assert (await retrieval.client.document("docs", "a.txt")).text == text.decode()


async def test_more_uploads_at_once_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, uploads_in_flight_max=1) as running, raw_session(running.url) as session:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
            started.set()
            await go_on.wait()
            yield b"slow\r\n--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        first = asyncio.create_task(session.post("/v1/collections/docs/files", data=slow(), headers=headers))
        await started.wait()
        async with RetrievalClient(running.url, retries=False) as client:

            async def is_refused() -> bool:
                """The first one may not have arrived yet."""
                try:
                    await client.upload("docs", [("b.txt", b"x")], wait=False)
                except Overloaded as error:
                    return "uploads_in_flight_max" in error.detail
                return False

            await until(is_refused)
        go_on.set()
        assert (await first).status == 202
        assert statuses(await running.client.upload("docs", [("c.txt", b"x")])) == {"c.txt": "created"}


async def test_a_page_of_another_site_cannot_upload_to_an_open_server(retrieval: RunningRetrieval) -> None:
    form = form_of(("file", b"x", {"filename": "a.txt"}))

    status, _ = await post(retrieval, form, Origin="https://example.org")

    assert status == 403


async def test_types_that_senders_guess_do_not_decide_against_the_content(retrieval: RunningRetrieval) -> None:
    status, answer = await post(
        retrieval,
        form_of(
            ("file", b"a,b\n1,2\n", {"filename": "a.csv", "content_type": "application/vnd.ms-excel"}),
            ("file", b"# Hi", {"filename": "b.md", "content_type": "text/plain"}),
            ("file", b"x: 1", {"filename": "c.weird", "content_type": "model/gltf-binary"}),
        ),
    )

    assert status == 200
    assert [result["status"] for result in answer["results"]] == ["created"] * 3
    assert (await retrieval.client.document("docs", "b.md")).title == "Hi"

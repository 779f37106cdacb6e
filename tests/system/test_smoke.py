from tests.harness import RunningMemory, RunningRetrieval


async def test_pair(retrieval: RunningRetrieval, memory: RunningMemory) -> None:
    a = await retrieval.client.ingest("c", [{"id": "x", "text": "hello world"}])
    assert a.results
    assert (await retrieval.client.search("hello")).hits[0].document_id == "x"
    await memory.client.append("s", [{"role": "user", "content": "hello"}], user_id="u")
    assert (await memory.client.recall("hello", user_id="u")).items[0].text == "hello"
    c = await memory.client.context("hello", session_id="s", user_id="u", collections=["c"])
    assert {p.kind for p in c.parts} == {"turn", "document"}
    assert (await retrieval.client.check()).clean
    assert (await memory.client.check()).clean

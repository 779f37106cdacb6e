"""One issuer for both services: what a token opens in memory, and what memory asks retrieval for with it."""

from pathlib import Path

import pytest

from diptych import MemoryClient, RetrievalClient
from shared.errors import Forbidden, NotFound, Unauthenticated
from tests.harness import make_key, running_memory, running_retrieval
from tests.shared.issuer import running_issuer

MEMORY = "https://memory.example.org"
RETRIEVAL = "https://retrieval.example.org"
SERVICE_KEY = "a secret that both services share"
ALL = "retrieval:read memory:read memory:write"


async def test_a_person_with_a_token_meets_their_own_memory_and_the_tenants_documents(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "default")
    async with (
        running_issuer() as issuer,
        running_retrieval(
            tmp_path,
            key=key,
            service_key=SERVICE_KEY,
            oauth_issuer=issuer.url,
            oauth_resource=RETRIEVAL,
            oauth_audiences=(MEMORY,),
        ) as retrieval,
        running_memory(
            tmp_path,
            key=key,
            retrieval_url=retrieval.url,
            service_key=SERVICE_KEY,
            oauth_issuer=issuer.url,
            oauth_resource=MEMORY,
        ) as memory,
        MemoryClient(memory.url, api_key=issuer.token(aud=MEMORY, scope=ALL)) as ada,
        MemoryClient(memory.url, api_key=issuer.token(aud=MEMORY, scope="memory:read")) as narrow,
        MemoryClient(memory.url, api_key=issuer.token(aud=RETRIEVAL, scope=ALL)) as misdirected,
        RetrievalClient(retrieval.url, api_key=issuer.token(aud=RETRIEVAL, scope="retrieval:read")) as reader,
    ):
        await retrieval.client.ingest("handbook", [{"id": "a", "text": "The harbour opens at six."}], wait=True)
        await memory.client.append("bobs", [{"role": "user", "content": "My boat is red."}], user_id="bob")
        await ada.append("adas", [{"role": "user", "content": "When does the harbour open?"}])

        context = await ada.context(session_id="adas", collections=["handbook"])

        assert "The harbour opens at six." in context.text
        assert (await ada.session("adas")).user_id == "ada"
        with pytest.raises(NotFound):
            await ada.session("bobs")
        assert (await reader.search("harbour")).hits
        with pytest.raises(Forbidden, match="lacks the scope 'memory:write'"):
            await narrow.append("adas", [{"role": "user", "content": "hello"}])
        # The rights of the token are those that retrieval sees.
        with pytest.raises(Forbidden, match="lacks the scope 'retrieval:read'"):
            await narrow.context(session_id="adas", collections=["handbook"])
        with pytest.raises(Unauthenticated, match="meant for another service"):
            await misdirected.sessions()

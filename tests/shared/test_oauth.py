"""Access tokens of an issuer open a service beside its API keys, with what their claims say and no more."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import Forbidden, SettingsError, Unauthenticated, Unavailable
from shared.keys import Principal
from shared.mcp.catalogue import Caller, Catalogue, Told, Tool
from shared.mcp.hosting import mount
from shared.messages import Answer, Request
from shared.oauth.access_tokens import AccessTokens
from shared.oauth.claims import claims_mapping
from shared.oauth.signing_keys import FRESH_S, RETRY_S, STALE_S, UNKNOWN_S, SigningKeys, metadata_urls
from shared.settings import load_settings
from tests.harness import make_key
from tests.shared.issuer import AUDIENCE, RSA_KEY, Issuer, running_issuer
from tests.shared.probe import Probe, ProbeSettings, Raw, ask, running_probe

METADATA = f"{AUDIENCE}/.well-known/oauth-protected-resource"


class NoArguments(Request, frozen=True, kw_only=True):
    """Of a tool that takes none."""


class Who(Answer, frozen=True, kw_only=True):
    tenant: str
    user_id: str | None = None


async def who(_service: object, caller: Caller, _arguments: NoArguments) -> Told:
    found = Who(tenant=caller.principal.tenant, user_id=caller.principal.user_id)
    return Told(f"{found.tenant} {found.user_id}", found)


CATALOGUE = Catalogue(
    name="probe",
    title="Probe",
    instructions="Ask who.",
    tools=(
        Tool(
            name="who",
            title="Who",
            description="Who is asking",
            arguments=NoArguments,
            answers=Who,
            run=who,
            scope="memory:read",
            is_read_only=True,
            is_destructive=False,
            is_idempotent=True,
        ),
    ),
)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as running:
        yield running


@asynccontextmanager
async def guarded(tmp_path: Path, issuer: Issuer, **settings: Any) -> AsyncIterator[Probe]:
    chosen = {"oauth_issuer": issuer.url, "oauth_resource": AUDIENCE, **settings}
    async with running_probe(tmp_path, lambda app: mount(app, CATALOGUE), **chosen) as probe:
        yield probe


@pytest.fixture
async def probe(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Probe]:
    async with guarded(tmp_path, issuer) as running:
        yield running


async def whoami(probe: Probe, token: str) -> Raw:
    return await ask(probe.url, "GET", "/v1/whoami", Authorization=f"Bearer {token}")


async def test_a_token_is_its_subject_in_the_tenant_with_its_scopes(probe: Probe, issuer: Issuer) -> None:
    answer = await whoami(probe, issuer.token(scope="openid memory:write memory:read admin"))

    assert answer.status == 200
    assert (answer.value["tenant"], answer.value["user_id"]) == ("default", "ada")
    # `admin` is the issuer's own word for something else until somebody says that it is ours.
    assert answer.value["text"] == "memory:read memory:write"


async def test_keys_open_the_server_as_before_and_tokens_beside_them(
    tmp_path: Path, probe: Probe, issuer: Issuer
) -> None:
    key = await make_key(tmp_path, "acme", "memory:read")

    assert (await whoami(probe, key)).value == {"text": "memory:read", "tenant": "acme", "path": {}}
    assert (await whoami(probe, issuer.token())).value["tenant"] == "default"
    wrong = await whoami(probe, key[:-1])
    assert (wrong.status, wrong.value["detail"]) == (401, "this API key is not valid")


async def test_a_server_with_an_issuer_is_not_open(probe: Probe) -> None:
    assert not probe.server.authenticator.is_open
    answer = await ask(probe.url, "GET", "/v1/whoami")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{METADATA}"'


async def test_a_server_with_an_issuer_may_be_reached_by_others(tmp_path: Path, issuer: Issuer) -> None:
    async with guarded(tmp_path, issuer, host="0.0.0.0") as probe:  # noqa: S104 - only said, not bound
        assert (await whoami(probe, issuer.token())).status == 200


REFUSED: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://elsewhere.example.org"},
    "for another service": {"aud": "https://other.example.org"},
    "for many others": {"aud": ["https://other.example.org", "x"]},
    "for no service": {"without": ("aud",)},
    "of no issuer": {"without": ("iss",)},
    "without an end": {"without": ("exp",)},
    "expired": {"exp": int(time.time()) - 3600},
    "of tomorrow": {"nbf": int(time.time()) + 3600},
    "issued tomorrow": {"iat": int(time.time()) + 3600},
    "with an end that is none": {"exp": "soon"},
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_token_that_is_not_for_here_and_now_is_refused(probe: Probe, issuer: Issuer, case: str) -> None:
    answer = await whoami(probe, issuer.token(**REFUSED[case]))

    assert (answer.status, answer.value["code"]) == (401, "unauthenticated")
    challenge = f'Bearer error="invalid_token", resource_metadata="{METADATA}"'
    assert answer.headers["WWW-Authenticate"] == challenge


async def test_clocks_may_differ_a_little(probe: Probe, issuer: Issuer) -> None:
    now = int(time.time())

    assert (await whoami(probe, issuer.token(exp=now - 10, nbf=now + 10))).status == 200


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forgeries(issuer: Issuer) -> dict[str, str]:
    claims, good = issuer.claims(scope="memory:read admin"), issuer.token()
    stranger = ec.generate_private_key(ec.SECP256R1())
    public = issuer.keys["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header, payload, signature = good.split(".")
    return {
        "nobody signed": f"{_segment({'alg': 'none', 'kid': 'first'})}.{_segment(claims)}.",
        "nobody signed, with a signature": f"{_segment({'alg': 'None', 'kid': 'first'})}.{_segment(claims)}.{signature}",
        "signed with the public key as a secret": _hmac(claims, public),
        "signed with a shared secret": jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": "first"}),
        "signed by a stranger": jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": "first"}),
        "signed by a stranger with its own key in it": jwt.encode(
            claims,
            stranger,
            algorithm="ES256",
            headers={"kid": "first", "jwk": jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key(), as_dict=True)},
        ),
        "a key that nobody knows": jwt.encode(claims, stranger, algorithm="ES256", headers={"kid": "unknown"}),
        "another kind of key": jwt.encode(claims, RSA_KEY, algorithm="RS256", headers={"kid": "first"}),
        "other claims": f"{header}.{_segment(claims)}.{signature}",
        "a bit changed": f"{header}.{payload}.{signature[:-4]}AAAA",
        "cut off": f"{header}.{payload}",
        "no header": f"!!.{payload}.{signature}",
        "a header that is no object": f"{_segment([1])}.{payload}.{signature}",
        "a key's name that is none": f"{_segment({'alg': 'ES256', 'kid': {'a': 1}})}.{payload}.{signature}",
        "no token at all": "hello",
    }


def _hmac(claims: dict[str, Any], secret: bytes) -> str:
    """By hand, because no library helps with it any more."""
    signed = f"{_segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{_segment(claims)}"
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def test_a_forged_token_is_refused_in_the_same_words_whatever_is_wrong_with_it(
    probe: Probe, issuer: Issuer
) -> None:
    assert (await whoami(probe, issuer.token())).status == 200

    for case, token in forgeries(issuer).items():
        answer = await whoami(probe, token)
        assert (case, answer.status, answer.value["detail"]) == (case, 401, "this access token is not valid")


async def test_an_rsa_key_signs_as_well(tmp_path: Path) -> None:
    async with running_issuer(keys={"first": RSA_KEY}) as issuer, guarded(tmp_path, issuer) as probe:
        assert (await whoami(probe, issuer.token())).status == 200


async def test_a_token_that_names_no_key_is_of_the_only_one(probe: Probe, issuer: Issuer) -> None:
    nameless = jwt.encode(issuer.claims(), issuer.keys["first"], algorithm="ES256")

    assert (await whoami(probe, nameless)).status == 200


async def test_an_issuer_may_change_its_key_at_any_time(probe: Probe, issuer: Issuer) -> None:
    assert (await whoami(probe, issuer.token())).status == 200

    issuer.rotate("second")

    assert (await whoami(probe, issuer.token())).status == 200
    assert issuer.asked.count("/keys") == 2


async def test_made_up_names_of_keys_do_not_make_the_server_ask_again_and_again(probe: Probe, issuer: Issuer) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    for number in range(20):
        token = jwt.encode(issuer.claims(), stranger, algorithm="ES256", headers={"kid": str(number)})
        assert (await whoami(probe, token)).status == 401

    assert issuer.asked.count("/keys") == 2
    assert (await whoami(probe, issuer.token())).status == 200


async def test_while_the_issuer_is_down_nobody_knows_so_it_is_neither_yes_nor_no(
    tmp_path: Path, probe: Probe, issuer: Issuer
) -> None:
    key = await make_key(tmp_path, "acme", "memory:read")
    issuer.is_down = True

    answer = await whoami(probe, issuer.token())
    again = await whoami(probe, issuer.token())

    assert (answer.status, answer.value["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "WWW-Authenticate" not in answer.headers
    assert again.status == 503
    assert len(issuer.asked) == 1
    # What needs no issuer goes on.
    assert (await whoami(probe, key)).status == 200
    assert (await whoami(probe, forgeries(issuer)["nobody signed"])).status == 401


async def test_an_issuer_that_is_not_there_at_all_is_down(tmp_path: Path, issuer: Issuer) -> None:
    token = issuer.token(iss="http://127.0.0.1:9")

    async with guarded(tmp_path, issuer, oauth_issuer="http://127.0.0.1:9") as probe:
        assert (await whoami(probe, token)).status == 503


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def checker(issuer: Issuer, clock: Clock, jwks_url: str | None = None) -> AccessTokens:
    settings = ProbeSettings(oauth_issuer=issuer.url, oauth_resource=AUDIENCE)
    keys = SigningKeys(issuer.url, jwks_url, now=clock)
    return AccessTokens(keys, claims_mapping(settings), issuer=issuer.url, audiences=[AUDIENCE])


async def test_keys_are_asked_for_anew_after_a_while_and_withdrawn_ones_open_nothing(issuer: Issuer) -> None:
    clock = Clock()
    tokens = checker(issuer, clock)
    old = issuer.token()
    await tokens.principal(old)
    issuer.rotate("second")

    clock.now = FRESH_S - 1
    await tokens.principal(old)
    clock.now = FRESH_S
    with pytest.raises(Unauthenticated):
        await tokens.principal(old)
    await tokens.principal(issuer.token())
    await tokens.close()


async def test_an_outage_of_the_issuer_is_outlived_for_an_hour(issuer: Issuer) -> None:
    clock = Clock()
    tokens = checker(issuer, clock)
    await tokens.principal(issuer.token())
    issuer.is_down = True

    for clock.now in (FRESH_S, FRESH_S + RETRY_S / 2, STALE_S - 1):
        await tokens.principal(issuer.token())
    clock.now = STALE_S
    with pytest.raises(Unavailable):
        await tokens.principal(issuer.token())
    # A key that is new is unknown until the issuer is back.
    issuer.is_down = False
    clock.now = STALE_S + RETRY_S + 1
    await tokens.principal(issuer.token())
    issuer.is_down = True
    issuer.rotate("second")
    with pytest.raises(Unavailable):
        await tokens.principal(issuer.token())
    issuer.is_down = False
    with pytest.raises(Unauthenticated):
        await tokens.principal(issuer.token())
    clock.now += UNKNOWN_S + 1
    await tokens.principal(issuer.token())
    await tokens.close()


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"])
async def test_an_issuer_says_itself_where_its_keys_are(path: str) -> None:
    async with running_issuer(metadata_path=path) as issuer:
        tokens = checker(issuer, Clock())
        assert (await tokens.principal(issuer.token())).user_id == "ada"
        await tokens.close()


async def test_where_its_keys_are_may_be_configured(issuer: Issuer) -> None:
    tokens = checker(issuer, Clock(), jwks_url=f"{issuer.url}/keys")

    assert (await tokens.principal(issuer.token())).user_id == "ada"
    assert issuer.asked == ["/keys"]
    await tokens.close()


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": {"issuer": "https://elsewhere.example.org"}},
        {"metadata": {"jwks_uri": "file:///etc/passwd"}},
        {"metadata": {"jwks_uri": 7}},
        {"metadata_path": "/elsewhere"},
        {"key_set": {"keys": "none"}},
        {"key_set": {"keys": [], "padding": "x" * 300_000}},
    ],
)
async def test_an_issuer_that_makes_no_sense_is_down(options: dict[str, Any]) -> None:
    async with running_issuer(**options) as issuer:
        tokens = checker(issuer, Clock())
        with pytest.raises(Unavailable):
            await tokens.principal(issuer.token())
        await tokens.close()


async def test_keys_for_something_else_check_no_token(issuer: Issuer) -> None:
    (key,) = issuer.published()["keys"]
    for wrong in ({"use": "enc"}, {"alg": "ES384"}, {"kty": "oct", "k": "c2VjcmV0"}, {"x": "!"}):
        issuer.key_set = {"keys": [{**key, **wrong}]}
        tokens = checker(issuer, Clock())
        with pytest.raises(Unauthenticated):
            await tokens.principal(issuer.token())
        await tokens.close()


def test_an_address_with_a_path_has_its_metadata_where_the_standards_say() -> None:
    assert metadata_urls("https://id.example.org/realms/one") == (
        "https://id.example.org/.well-known/oauth-authorization-server/realms/one",
        "https://id.example.org/realms/one/.well-known/openid-configuration",
    )


class TestClaims:
    CLAIMS: dict[str, Any] = {  # noqa: RUF012 - read only
        "iss": "https://id.example.org",
        "sub": "7f3a",
        "email": "ada@example.org",
        "https://example.org/org": "acme",
        "org": {"name": "globex"},
        "scope": "read openid",
        "roles": ["reader", "approver", 7],
        "bad tenant": "a b",
        "bad user": "a\n",
    }

    def principal(self, **settings: Any) -> Principal:
        chosen = ProbeSettings(**{f"oauth_{name}": value for name, value in settings.items()})
        return claims_mapping(chosen).principal(self.CLAIMS)

    def test_a_tenant_may_be_fixed_or_a_claim_by_its_whole_name_or_its_path(self) -> None:
        assert self.principal(tenant="initech").tenant == "initech"
        assert self.principal(tenant_claim="https://example.org/org").tenant == "acme"
        assert self.principal(tenant_claim="org.name").tenant == "globex"

    @pytest.mark.parametrize("claim", ["none", "org", "bad tenant", "org.name.more", "roles"])
    def test_a_token_that_names_no_tenant_is_of_no_tenant(self, claim: str) -> None:
        with pytest.raises(Forbidden, match="names no tenant that can be used here"):
            self.principal(tenant="initech", tenant_claim=claim)

    def test_a_user_is_any_claim_or_nobody(self) -> None:
        assert self.principal().user_id == "7f3a"
        assert self.principal(user_claim="email").user_id == "ada@example.org"
        assert self.principal(user_claim="").user_id is None

    @pytest.mark.parametrize("claim", ["none", "bad user", "roles"])
    def test_a_token_that_names_no_user_opens_nobodys_memory(self, claim: str) -> None:
        with pytest.raises(Forbidden, match="names no user that can be used here"):
            self.principal(user_claim=claim)

    def test_scopes_may_have_other_names_and_stand_in_a_list(self) -> None:
        table = ("read=memory:read", "read=retrieval:read", "reader=memory:read", "approver=memory:approve")

        assert self.principal(scopes=table).scopes == {"memory:read", "retrieval:read"}
        assert self.principal(scopes=table, scopes_claim="roles").scopes == {"memory:read", "memory:approve"}
        assert self.principal(scopes_claim="none").scopes == frozenset()

    def test_with_a_table_only_the_table_counts(self) -> None:
        claims = {**self.CLAIMS, "scope": "memory:write admin"}
        settings = ProbeSettings(oauth_scopes=("admin=memory:read",))

        assert claims_mapping(settings).principal(claims).scopes == {"memory:read"}

    def test_logs_tell_subjects_apart_and_do_not_name_them(self) -> None:
        mapping = claims_mapping(ProbeSettings())
        ids = [mapping.principal({**self.CLAIMS, "sub": sub}).key_id for sub in ("ada", "ada", "bob")]

        assert ids[0] == ids[1] != ids[2]
        assert str(ids[0]).startswith("oauth-")
        assert "ada" not in str(ids[0])


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"oauth_issuer": "https://id.example.org"}, "needs oauth_resource"),
        (
            {"oauth_issuer": "http://id.example.org", "oauth_resource": AUDIENCE},
            "must be https, except on this machine",
        ),
        ({"oauth_jwks_url": "http://id.example.org/keys"}, "must be https"),
        ({"oauth_resource": "memory.example.org"}, "match"),
        ({"oauth_scopes": "read"}, "'read' is not THEIRS=OURS"),
        ({"oauth_scopes": "read=everything"}, "'read=everything' is not THEIRS=OURS"),
        ({"oauth_tenant": "_service"}, "match"),
    ],
)
def test_settings_that_would_open_a_hole_are_refused(flags: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_settings(ProbeSettings, flags)


class TestDiscovery:
    async def test_a_client_learns_where_to_get_a_token(self, probe: Probe, issuer: Issuer) -> None:
        for path in ("", "/mcp"):
            answer = await ask(probe.url, "GET", f"/.well-known/oauth-protected-resource{path}")
            assert answer.status == 200
            assert answer.value == {
                "resource": AUDIENCE + path,
                "resource_name": "Diptych probe",
                "authorization_servers": [issuer.url],
                "scopes_supported": [],
                "bearer_methods_supported": ["header"],
            }

    async def test_a_refusal_at_mcp_names_the_metadata_of_mcp(self, probe: Probe) -> None:
        answer = await call_who(probe, None)

        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{METADATA}/mcp"'

    async def test_a_missing_scope_is_named_in_the_issuers_words(self, tmp_path: Path, issuer: Issuer) -> None:
        async with guarded(tmp_path, issuer, oauth_scopes="agent.read=memory:read,agent.write=memory:write") as probe:
            found = await ask(probe.url, "GET", "/.well-known/oauth-protected-resource")
            weak = issuer.token(scope="agent.read")
            at_v1 = await ask(probe.url, "GET", "/v1/write", Authorization=f"Bearer {weak}")
            at_mcp = await call_who(probe, issuer.token(scope="agent.write"))

        assert found.value["scopes_supported"] == ["agent.read", "agent.write"]
        assert at_v1.status == at_mcp.status == 403
        assert at_v1.headers["WWW-Authenticate"] == (
            f'Bearer error="insufficient_scope", scope="agent.write", resource_metadata="{METADATA}"'
        )
        assert at_mcp.headers["WWW-Authenticate"] == (
            f'Bearer error="insufficient_scope", scope="agent.read", resource_metadata="{METADATA}/mcp"'
        )

    async def test_without_an_issuer_there_is_no_such_thing(self, tmp_path: Path) -> None:
        await make_key(tmp_path, "acme")
        async with running_probe(tmp_path, lambda app: mount(app, CATALOGUE)) as probe:
            found = await ask(probe.url, "GET", "/.well-known/oauth-protected-resource")
            refused = await call_who(probe, None)
            token = await call_who(probe, "a.b.c")

        assert (found.status, refused.status) == (404, 401)
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert token.value["detail"] == "this API key is not valid"


async def call_who(probe: Probe, token: str | None) -> Raw:
    """The tool, in the newest revision, which needs no handshake."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "who", "arguments": {}, "_meta": meta},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP_Protocol_Version": "2026-07-28",
        "Mcp_Method": "tools/call",
        "Mcp_Name": "who",
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await ask(probe.url, "POST", "/mcp", msgspec.json.encode(message), **headers)


@pytest.mark.parametrize(
    "audience", [AUDIENCE, f"{AUDIENCE}/", f"{AUDIENCE}/mcp", ["x", f"{AUDIENCE}/mcp"], "api://own"]
)
async def test_a_token_opens_the_tools_as_whom_it_names(tmp_path: Path, issuer: Issuer, audience: Any) -> None:
    async with guarded(tmp_path, issuer, oauth_audiences="api://own") as probe:
        answer = await call_who(probe, issuer.token(aud=audience))

    assert answer.status == 200, answer.body
    assert answer.value["result"]["structuredContent"] == {"tenant": "default", "user_id": "ada"}


async def test_the_address_of_a_service_may_have_a_path(tmp_path: Path, issuer: Issuer) -> None:
    async with guarded(tmp_path, issuer, oauth_resource=f"{AUDIENCE}/diptych") as probe:
        answer = await call_who(probe, None)

    expected = f"{AUDIENCE}/.well-known/oauth-protected-resource/diptych/mcp"
    assert answer.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{expected}"'


async def test_a_route_that_says_nothing_of_users_is_closed_to_a_users_token(probe: Probe, issuer: Issuer) -> None:
    answer = await ask(probe.url, "GET", "/v1/read", Authorization=f"Bearer {issuer.token()}")

    assert answer.status == 403
    assert "belongs to the user 'ada'" in answer.value["detail"]

"""An issuer of access tokens on this machine: it signs for real, and says of itself what real ones say."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.harness import serving

AUDIENCE = "https://memory.example.org"
# From 2048 bits on is what PyJWT and everybody else calls safe; made once, because that takes a while.
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(slots=True, kw_only=True)
class Issuer:
    """`keys` are what it publishes, private halves included; `signing` is the name of the one that it signs with."""

    url: str = ""
    keys: dict[str, PrivateKey] = field(default_factory=lambda: {"first": ec.generate_private_key(ec.SECP256R1())})
    signing: str = "first"
    is_down: bool = False
    # Where it says of itself what it is, and what it says.
    metadata_path: str = "/.well-known/oauth-authorization-server"
    metadata: dict[str, Any] = field(default_factory=dict)
    key_set: dict[str, Any] | None = None
    asked: list[str] = field(default_factory=list)

    def rotate(self, name: str) -> None:
        """From now on it signs with a new key, and publishes no other."""
        self.keys, self.signing = {name: ec.generate_private_key(ec.SECP256R1())}, name

    def token(self, *, without: tuple[str, ...] = (), **claims: Any) -> str:
        said = self.claims(**claims)
        key = self.keys[self.signing]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        kept = {name: value for name, value in said.items() if name not in without}
        return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": self.signing})

    def claims(self, **claims: Any) -> dict[str, Any]:
        own = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "scope": "memory:read", "exp": int(time.time()) + 60}
        return own | claims

    def published(self) -> dict[str, Any]:
        found = []
        for name, key in self.keys.items():
            public = key.public_key()
            made = (
                RSAAlgorithm.to_jwk(public, as_dict=True)
                if isinstance(public, rsa.RSAPublicKey)
                else ECAlgorithm.to_jwk(public, as_dict=True)
            )
            found.append({**made, "kid": name, "use": "sig"})
        return self.key_set or {"keys": found}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.is_down:
            raise web.HTTPServiceUnavailable
        if request.path == self.metadata_path:
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.metadata})
        if request.path == "/keys":
            return web.json_response(self.published())
        raise web.HTTPNotFound


@asynccontextmanager
async def running_issuer(**options: Any) -> AsyncIterator[Issuer]:
    issuer = Issuer(**options)
    app = web.Application()
    app.router.add_get("/{path:.*}", issuer.answer)
    async with serving(app) as issuer.url:
        yield issuer

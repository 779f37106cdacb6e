"""Access tokens (JWT, RFC 9068): signed by the issuer, meant for this service, and in time. PyJWT does the checking.

Only signatures with a public key count: `none` and those with a shared secret are refused before any key is looked for, or a
public key could be used as the secret. What is said of a refused token helps its rightful bearer, who has proved to be that by
the signature, and nobody else.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import jwt

from shared.errors import Unauthenticated
from shared.keys import Principal
from shared.oauth.claims import ClaimsMapping
from shared.oauth.signing_keys import Jwk, SigningKeys

# The type of key that each needs.
_KEY_TYPES: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
# Clocks of two machines that are kept.
LEEWAY_S: Final = 30.0
_INVALID: Final = "this access token is not valid"


class AccessTokens:
    def __init__(self, keys: SigningKeys, mapping: ClaimsMapping, *, issuer: str, audiences: Iterable[str]) -> None:
        self._keys = keys
        self._mapping = mapping
        self._issuer = issuer
        self._audiences = set(audiences)

    def accept(self, audience: str) -> None:
        """Tokens that are meant for this are taken too."""
        self._audiences.add(audience)

    async def principal(self, token: str) -> Principal:
        """Raises Unauthenticated, Forbidden where its claims name nobody here, and Unavailable where its issuer cannot be
        asked for keys."""
        key = await self._key(token)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audiences,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("this access token has expired; get a new one") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated("this access token is meant for another service; get one for this one") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated(_INVALID) from error
        return self._mapping.principal(claims)

    async def close(self) -> None:
        await self._keys.close()

    async def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(_INVALID) from error
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in _KEY_TYPES:
            raise Unauthenticated(_INVALID)
        found = _matching(await self._keys.all(), algorithm, name) or _matching(
            await self._keys.looked_at_again(), algorithm, name
        )
        try:
            if found is not None:
                return jwt.PyJWK(found, algorithm)
        except jwt.PyJWTError as error:
            raise Unauthenticated(_INVALID) from error
        raise Unauthenticated(_INVALID)


def _matching(keys: Sequence[Jwk], algorithm: str, name: str | None) -> Jwk | None:
    """The key that a token names; where it names none, the only one there is."""
    usable = [
        key
        for key in keys
        if key.get("kty") == _KEY_TYPES[algorithm]
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
    ]
    if name is None:
        return usable[0] if len(usable) == 1 else None
    return next((key for key in usable if key.get("kid") == name), None)

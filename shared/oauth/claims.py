"""Who the bearer of an access token is here, from its claims and the configuration. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from shared.errors import Forbidden
from shared.keys import SCOPES, Principal, Scope, TenantName
from shared.messages import Id
from shared.settings import ServiceSettings

# Tokens have no id that means anything here; this tells them from the ids of keys, and one subject from another.
_KEY_ID: Final = "oauth-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsMapping:
    """`scopes` are the issuer's names, and ours for each."""

    tenant: str
    tenant_claim: str | None
    user_claim: str | None
    scopes_claim: str
    scopes: Mapping[str, frozenset[Scope]]

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Raises Forbidden where the claims name no tenant or no user."""
        tenant = self.tenant
        if self.tenant_claim is not None:
            tenant = _named(claims, self.tenant_claim, TenantName, "tenant")
        user_id = None if self.user_claim is None else _named(claims, self.user_claim, Id, "user")
        given = _scopes(_claim(claims, self.scopes_claim))
        return Principal(
            tenant=tenant,
            scopes=frozenset[str]().union(*(self.scopes.get(name, ()) for name in given)),
            key_id=_key_id(claims),
            user_id=user_id,
        )

    def names_for(self, scope: str) -> list[str]:
        """The issuer's names for one of our scopes."""
        return sorted(name for name, ours in self.scopes.items() if scope in ours)


def claims_mapping(settings: ServiceSettings) -> ClaimsMapping:
    scopes: dict[str, frozenset[Scope]] = {}
    for each in settings.oauth_scopes:
        theirs, _, ours = each.rpartition("=")
        scopes[theirs] = scopes.get(theirs, frozenset()) | {scope for scope in SCOPES if scope == ours}
    # An issuer's `admin` is hardly ever ours, so it must be said.
    own: dict[str, frozenset[Scope]] = {scope: frozenset([scope]) for scope in SCOPES if scope != "admin"}
    return ClaimsMapping(
        tenant=settings.oauth_tenant,
        tenant_claim=settings.oauth_tenant_claim,
        user_claim=settings.oauth_user_claim or None,
        scopes_claim=settings.oauth_scopes_claim,
        scopes=scopes or own,
    )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """By its whole name, which may well be an address with dots; else as a path into objects."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _named(claims: Mapping[str, Any], name: str, kind: Any, what: str) -> str:
    try:
        found: str = msgspec.convert(_claim(claims, name), kind)
    except msgspec.ValidationError as error:
        raise Forbidden(f"this access token names no {what} that can be used here (claim {name!r})") from error
    return found


def _scopes(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _key_id(claims: Mapping[str, Any]) -> str:
    """For logs and the audit record: the same for one subject, and not its name."""
    subject = msgspec.json.encode((claims.get("iss"), claims.get("sub") or claims.get("client_id")))
    return _KEY_ID + hashlib.sha256(subject).hexdigest()[:12]

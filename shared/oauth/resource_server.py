"""OAuth for one service, put together from its settings."""

from dataclasses import dataclass
from typing import Any

from shared.oauth.access_tokens import AccessTokens
from shared.oauth.claims import claims_mapping
from shared.oauth.discovery import Discovery
from shared.oauth.signing_keys import SigningKeys
from shared.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class ResourceServer:
    tokens: AccessTokens
    discovery: Discovery

    def protect(self, path: str) -> dict[str, Any]:
        """From now on clients may name this path as what they want a token for. Answers its metadata."""
        self.discovery.add(path)
        document = self.discovery.document(path)
        self.tokens.accept(document["resource"])
        return document


def resource_server(settings: ServiceSettings) -> ResourceServer | None:
    """None where no issuer is configured."""
    issuer, resource = settings.oauth_issuer, settings.oauth_resource
    if issuer is None or resource is None:
        return None
    mapping = claims_mapping(settings)
    tokens = AccessTokens(
        SigningKeys(issuer, settings.oauth_jwks_url), mapping, issuer=issuer, audiences=settings.oauth_audiences
    )
    # Clients write an address without a path either way.
    tokens.accept(resource.rstrip("/"))
    tokens.accept(resource.rstrip("/") + "/")
    return ResourceServer(tokens, Discovery(settings, mapping, resource=resource, issuer=issuer))

"""Where a client without a token learns where to get one: RFC 9728, and the header of a refusal. Pure."""

from typing import Any, Final
from urllib.parse import urlsplit

from shared.errors import ServiceError
from shared.keys import SCOPES_DEFAULT
from shared.oauth.claims import ClaimsMapping
from shared.settings import ServiceSettings

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


class Discovery:
    """`resource` is the service's own address; each path under it that clients may name is a resource of its own."""

    def __init__(self, settings: ServiceSettings, mapping: ClaimsMapping, *, resource: str, issuer: str) -> None:
        self._service = settings.service
        self._has_own_names = bool(settings.oauth_scopes)
        self._mapping = mapping
        self._resource = resource.rstrip("/")
        self._issuer = issuer
        # The longest first.
        self._paths: list[str] = [""]

    def add(self, path: str) -> None:
        self._paths = sorted({*self._paths, path}, key=len, reverse=True)

    def document(self, path: str) -> dict[str, Any]:
        return {
            "resource": self._resource + path,
            "resource_name": f"Diptych {self._service}",
            "authorization_servers": [self._issuer],
            "scopes_supported": self._scopes(),
            "bearer_methods_supported": ["header"],
        }

    def challenge(self, path: str, error: ServiceError, *, had_token: bool) -> str:
        """The WWW-Authenticate of a 401, or of a 403 for a missing scope."""
        parts: dict[str, str] = {}
        scope = getattr(error, "scope", None)
        if scope is not None:
            parts["error"] = "insufficient_scope"
            parts["scope"] = next(iter(self._mapping.names_for(scope)), scope)
        elif had_token:
            parts["error"] = "invalid_token"
        parts["resource_metadata"] = self._metadata_url(path)
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parts.items())

    def _metadata_url(self, path: str) -> str:
        """Between the host and the path, as the RFC has it."""
        of = next((each for each in self._paths if path == each or path.startswith(f"{each}/")), "")
        parts = urlsplit(self._resource)
        return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}{of}"

    def _scopes(self) -> list[str]:
        """What a client should ask for. Without a table the issuer knows our names."""
        if self._has_own_names:
            return sorted(self._mapping.scopes)
        return [scope for scope in SCOPES_DEFAULT if scope.startswith(f"{self._service}:")]

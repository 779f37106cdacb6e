"""Settings of a service: a frozen value, read once from flags and the environment, checked whole.

`DIPTYCH_X` sets x for both services, `DIPTYCH_RETRIEVAL_X` or `DIPTYCH_MEMORY_X` for one; a flag wins over both. Every
problem is reported together, and so is a variable with the service's own prefix that it does not know, since a misspelt
limit is no limit. Of `DIPTYCH_X` a service cannot tell whether it is meant for the other.
docs/OPERATIONS.md lists them all; a test fails when one is missing there.
"""

import ipaddress
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import SettingsError
from shared.keys import DEFAULT_TENANT, SCOPES, TENANT_PATTERN

MIB = 1024 * 1024
ENV_PREFIX = "DIPTYCH_"

SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


# pydantic's `$` means the very end already, and it knows no look-ahead.
_TENANT = TENANT_PATTERN.removesuffix(r"(?!\n)")
_ADDRESS = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"
# Written as one word with commas, as a flag and in the environment alike.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class ServiceSettings(BaseSettings):
    """What both services have."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")
    service: ClassVar[str]

    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs API keys.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(
        Path("~/.diptych"), description="Where everything is kept; each service has its own folder in it."
    )
    keys_path: Path | None = Field(None, description="The file of API keys; by default keys.db in data_dir.")
    service_key: SecretStr | None = Field(
        None,
        min_length=24,
        description="A secret that both services share. With it memory may embed through retrieval; it opens no tenant.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is console on a terminal, else JSON lines."
    )
    body_bytes_max: int = Field(
        16 * MIB, ge=1024, description="Largest request body. A batch is held in memory while it is checked."
    )
    metadata_bytes_max: int = Field(
        16 * 1024, ge=2, description="Largest metadata object, as JSON. Metadata comes back with every hit."
    )
    requests_in_flight_max: int = Field(
        256, ge=1, description="Requests worked on at once; the next is answered 429. Bounds memory under a stampede."
    )
    streams_in_flight_max: int = Field(
        1024, ge=1, description="Event streams open at once; the next is answered 429. An idle one costs some 50 kB."
    )
    request_timeout_s: float = Field(
        60.0, gt=0, description="Longest time spent on one request, then 503. Above the slowest honest request."
    )
    drain_timeout_s: float = Field(
        10.0,
        ge=0,
        description="On SIGTERM, how long requests in flight may finish. Keep it under your platform's grace.",
    )
    feedback_max: int = Field(
        20_000,
        ge=1,
        description="Judged queries kept of one tenant; the next is answered 409. Golden sets have thousands; 1,000 delay the end of their collection by 50 ms.",
    )
    read_connections: int = Field(
        2,
        ge=1,
        le=64,
        description="SQLite connections for reading, each a thread; searches run on them. More wait for the interpreter: four were "
        "a quarter slower than two.",
    )

    mcp_hosts: Names = Field(
        (),
        description="Names besides its own machine's under which /mcp answers (Host), with commas. Others are refused: a "
        "page in a browser may have been made to point here.",
    )
    mcp_origins: Names = Field(
        (), description="Origins of web pages that may call /mcp, as browsers send them, with commas."
    )
    mcp_read_only: bool = Field(
        False, description="Offer agents only tools that change nothing, whatever their key may do over HTTP."
    )

    oauth_resource: str | None = Field(
        None,
        pattern=_ADDRESS,
        description="This service's own address as callers know it, such as https://memory.example.org. Access tokens must be "
        "meant for it or for its /mcp (`aud`).",
    )
    oauth_issuer: str | None = Field(
        None,
        pattern=_ADDRESS,
        description="Whose access tokens open this service, beside API keys: the issuer's address, exactly as tokens say it (`iss`).",
    )
    oauth_jwks_url: str | None = Field(
        None,
        pattern=_ADDRESS,
        description="Where the issuer's public keys are; by default where it says itself (RFC 8414, OpenID Connect).",
    )
    oauth_audiences: Names = Field(
        (), description="What else `aud` may be, for issuers that do not take an address for it, with commas."
    )
    oauth_tenant: str = Field(
        DEFAULT_TENANT,
        max_length=64,
        pattern=_TENANT,
        description="The tenant of all tokens where oauth_tenant_claim is not set.",
    )
    oauth_tenant_claim: str | None = Field(
        None, min_length=1, description="The claim that names a token's tenant. A token without it is refused."
    )
    oauth_user_claim: str = Field(
        "sub",
        description="The claim that names the user whose memory a token reaches, and no other. Empty: tokens are of no user.",
    )
    oauth_scopes_claim: str = Field(
        "scope", min_length=1, description="The claim with a token's scopes, as a text with spaces or as a list."
    )
    oauth_scopes: Names = Field(
        (),
        description="What the issuer's scopes or roles mean here, as `THEIRS=OURS` with commas; the same one may stand twice. "
        "Without any, ours are taken by their own names, save `admin`.",
    )

    @field_validator("oauth_resource", "oauth_issuer", "oauth_jwks_url")
    @classmethod
    def _encrypted(cls, address: str | None) -> str | None:
        """Whoever can change what is read from there decides who gets in."""
        parts = urlsplit(address or "")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("must be https, except on this machine")
        return address

    @field_validator("oauth_issuer")
    @classmethod
    def _needs_resource(cls, issuer: str | None, info: ValidationInfo) -> str | None:
        if issuer is not None and info.data.get("oauth_resource") is None:
            raise ValueError("needs oauth_resource: whom its tokens must be meant for")
        return issuer

    @field_validator("oauth_scopes")
    @classmethod
    def _known_scopes(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            theirs, _, ours = each.rpartition("=")
            if not theirs or ours not in SCOPES:
                raise ValueError(f"{each!r} is not THEIRS=OURS, with one of {', '.join(SCOPES)}")
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del env_settings, dotenv_settings, file_secret_settings
        own = EnvSettingsSource(settings_cls, env_prefix=f"{ENV_PREFIX}{cls.service.upper()}_")
        both = EnvSettingsSource(settings_cls, env_prefix=ENV_PREFIX)
        return init_settings, own, both

    @property
    def directory(self) -> Path:
        """This service's own folder."""
        return self.data_dir.expanduser() / self.service

    @property
    def keys_file(self) -> Path:
        return (self.keys_path or self.data_dir / "keys.db").expanduser()


@lru_cache(maxsize=64)  # of the few names that a server is called by
def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(kind: type[SettingsT], flags: dict[str, Any]) -> SettingsT:
    """Raises SettingsError that lists every problem. `flags` that are None were not given."""
    given = {name: value for name, value in flags.items() if value is not None}
    problems = [f"{name}: no service has this setting" for name in _unknown_variables(kind)]
    try:
        settings = kind(**given)
    except ValidationError as error:
        problems += [f"{_label(kind, part['loc'])}: {part['msg']}" for part in error.errors(include_input=False)]
    else:
        if not problems:
            return settings
    raise SettingsError("these settings cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems))


def _label(kind: type[ServiceSettings], location: tuple[int | str, ...]) -> str:
    name = ".".join(str(part) for part in location)
    flag, variable = name.replace("_", "-"), name.upper()
    return f"--{flag} / {ENV_PREFIX}{variable} / {ENV_PREFIX}{kind.service.upper()}_{variable}"


def _unknown_variables(kind: type[ServiceSettings]) -> list[str]:
    """Variables with this service's prefix that name none of its settings. `DIPTYCH_X` may be the other service's."""
    prefix = f"{ENV_PREFIX}{kind.service.upper()}_"
    # Where the services are, for clients and for memory: not a setting `url` of either.
    foreign = {f"{ENV_PREFIX}RETRIEVAL_URL", f"{ENV_PREFIX}MEMORY_URL"}
    known = {prefix + name.upper() for name in kind.model_fields} | foreign
    return sorted(name for name in os.environ if name.startswith(prefix) and name not in known)

"""Settings of the memory service. docs/OPERATIONS.md lists them with their reasons."""

from typing import ClassVar, Literal, get_args

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.settings import MIB, Names, ServiceSettings

Approval = Literal["none", "extracted", "all"]


class MemorySettings(ServiceSettings):
    service: ClassVar[str] = "memory"

    port: int = Field(7802, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    retrieval_url: str = Field(
        "http://127.0.0.1:7801", pattern=r"^https?://", description="Where retrieval is, for vectors and documents."
    )
    embed_timeout_s: float = Field(
        2.0, gt=0, description="How long a recall waits for its query's vector before it answers with words alone."
    )
    documents_timeout_s: float = Field(
        5.0, gt=0, description="How long a context waits for documents before it is assembled without them."
    )
    outage_pause_s: float = Field(
        1.0, ge=0, description="After retrieval failed, how long it is not asked again. Keeps degraded recalls fast."
    )
    vectors_batch_turns: int = Field(64, ge=1, le=1024, description="Turns embedded in one request in the background.")
    turn_characters_max: int = Field(
        1_000_000, ge=1, description="Longest content of one turn. Larger tool output belongs into a document."
    )
    index_items_max: int = Field(
        500_000,
        ge=1000,
        description="Turns whose indexes are kept in memory over all scopes (about 3 kB each); the least used go first.",
    )
    span_source_tokens_max: int = Field(
        4000,
        ge=256,
        description="Tokens of turns that one span stands for: more say less of each, fewer make more spans than anyone reads.",
    )
    span_tokens_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="A span's own tokens as a share of its turns'. Less loses identifiers, more saves little.",
    )
    transfers_in_flight_max: int = Field(
        4,
        ge=1,
        description="Exports and imports at once; the next is answered 429. Each holds a snapshot open, or a file on disk.",
    )
    import_record_bytes_max: int = Field(
        16 * MIB, ge=1024, description="Largest record of an import. One at a time is held in memory."
    )
    import_bytes_max: int = Field(
        8192 * MIB,
        ge=1024,
        description="Largest import. It stands in a file beside the database until it has been checked whole.",
    )
    retention_interval_s: float = Field(
        3600.0,
        gt=0,
        description="How often turns past a limit of retention are looked for. Looking reads every such session.",
    )
    facts_approval: Approval = Field(
        "extracted",
        description="Which facts wait for approval: `none`, those that a model `extracted` from turns, or `all`.",
    )
    facts_approval_tenants: Names = Field(
        (), description="Tenants with another rule than facts_approval, as `TENANT=RULE` with commas between them."
    )
    mcp_user: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Whose memory MCP tools read and write where neither the key nor the header Diptych-User says it.",
    )
    llm_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
        description="Base of an OpenAI-compatible API, as in http://127.0.0.1:8000/v1. Turns are sent there to be summarised; unset, nowhere.",
    )
    llm_model: str | None = Field(
        None, min_length=1, validate_default=True, description="The model to ask there. Spans name it as their origin."
    )
    llm_api_key: SecretStr | None = Field(
        None, min_length=1, description="The key for it. Set the variable: flags can be read in the list of processes."
    )
    llm_timeout_s: float = Field(
        60.0, gt=0, description="Longest time of one request. A slow model writes 1,000 tokens in about that."
    )
    llm_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="Times that a failed request is sent again. Enough for a hiccup; in an outage extracts do.",
    )
    llm_requests_in_flight_max: int = Field(
        2,
        ge=1,
        le=256,
        description="Requests at once. Summaries can wait, and must not use up a quota shared with others.",
    )
    llm_outage_failures: int = Field(
        5, ge=1, description="Failures in a row after which the model is left alone. More than a hiccup has."
    )
    llm_outage_pause_s: float = Field(
        60.0, ge=0, description="For how long; then one request tries. Summaries are extracts meanwhile."
    )
    llm_context_tokens: int = Field(
        8192, ge=2048, description="The model's window. A longer source is summarised in pieces, never cut off."
    )
    llm_thinking_tokens: int = Field(
        0,
        ge=0,
        validate_default=True,
        description="Tokens that a reasoning model may think beside its answer, at most a quarter of llm_context_tokens.",
    )
    llm_prompt_price: float = Field(
        0.0, ge=0, description="Price of a million tokens read, in any currency. Only counts what was spent."
    )
    llm_completion_price: float = Field(0.0, ge=0, description="Price of a million tokens written, likewise.")

    @field_validator("llm_model")
    @classmethod
    def _needed_with_its_url(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is None and info.data.get("llm_url") is not None:
            raise ValueError("must be set where llm_url is")
        return model

    @field_validator("llm_thinking_tokens")
    @classmethod
    def _leaves_room(cls, tokens: int, info: ValidationInfo) -> int:
        if tokens > info.data.get("llm_context_tokens", 0) / 4:
            raise ValueError("must leave three quarters of llm_context_tokens for reading and writing")
        return tokens

    @field_validator("facts_approval_tenants")
    @classmethod
    def _check_rules(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            tenant, _, rule = each.partition("=")
            if not tenant or rule not in get_args(Approval):
                raise ValueError(f"{each!r} is not TENANT=RULE, with a rule of {', '.join(get_args(Approval))}")
        return given

    @property
    def approval_of_tenants(self) -> dict[str, Approval]:
        parts = (each.partition("=") for each in self.facts_approval_tenants)
        return {tenant: rule for tenant, _, rule in parts}  # type: ignore[misc]  # checked above

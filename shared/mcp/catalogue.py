"""What a service offers to agents, as values: tools, resources and prompts. Knows nothing of the protocol's wire.

Names, parameters and limits follow what agents get right: few tools, plain names, no ids of tenants or users among the
arguments. Who is asking comes from the key and the server's configuration (`Caller`), never from a model.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.keys import Principal, Scope

# How far the work is: what is done, of how much if that is known, and a word on it.
Progress = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking. `named_user` is what the client's own configuration says (header Diptych-User); a key that belongs to a
    user has the last word. `progress` costs nothing where nobody asked to be told."""

    principal: Principal
    bearer: str | None = field(repr=False)
    named_user: str | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class Told:
    """One answer on both channels. Some hosts show a model only `text`, some only `facts`, so each says everything."""

    text: str
    facts: msgspec.Struct


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """`run` is given the service, the caller and an `arguments`, answers facts of type `answers`, or raises a ServiceError whose
    detail tells an agent what to do next. `aliases` are names that models guess, for the argument that they mean."""

    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    answers: type[msgspec.Struct]
    run: Callable[[Any, Caller, Any], Awaitable[Told]]
    scope: Scope
    is_read_only: bool
    is_destructive: bool
    is_idempotent: bool
    # Whether it reaches what outside parties wrote, beyond the user's own data.
    is_open_world: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceInfo:
    uri: str
    name: str
    title: str
    description: str
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePage:
    items: list[ResourceInfo]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind:
    """Resources whose addresses have one shape, `scheme://{first}/{second}`; each value is percent-encoded.

    `read` answers text, or raises NotFound. `listed` gives a page of those worth listing. `completions` suggest values for a
    variable: given the service, the caller, what was typed, and the variables that are known already."""

    uri_template: str
    name: str
    title: str
    description: str
    media_type: str
    scope: Scope
    read: Callable[[Any, Caller, Mapping[str, str]], Awaitable[str]]
    listed: Callable[[Any, Caller, str | None], Awaitable[ResourcePage]] | None = None
    completions: Mapping[str, Callable[[Any, Caller, str, Mapping[str, str]], Awaitable[list[str]]]] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptArgument:
    name: str
    description: str
    is_required: bool
    complete: Callable[[Any, Caller, str, Mapping[str, str]], Awaitable[list[str]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`write` makes the text that stands for the user's message."""

    name: str
    title: str
    description: str
    arguments: tuple[PromptArgument, ...]
    scope: Scope
    write: Callable[[Any, Caller, Mapping[str, str]], Awaitable[str]]

    @property
    def is_read_only(self) -> bool:
        """Whether what it asks for can be done with tools that change nothing."""
        return self.scope.endswith(":read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """`instructions` say how the tools work together, in at most some 600 characters: hosts put them before every task."""

    name: str
    title: str
    instructions: str
    tools: tuple[Tool, ...]
    resources: tuple[ResourceKind, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    # What the fields of answers mean, by name, or by `tool.name` where a tool means something of its own.
    glossary: Mapping[str, str] = field(default_factory=dict)

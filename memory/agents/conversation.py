"""`record_messages` and `get_session`: a conversation written down as it was, and read again."""

from typing import Annotated, Final

from msgspec import Meta

from memory.agents.identity import user_of
from memory.agents.moments import When, moment_of
from memory.agents.sessions import own_session, refuse_foreign, taken
from memory.agents.transcript import told_session
from memory.service import MemoryService
from shared.errors import Conflict, FieldError, InvalidFields, NotFound, ServiceError
from shared.mcp.catalogue import Caller, Told
from shared.memory_messages import SEQ_MAX, AppendRequest, Role, Span, SpansQuery, TurnIn
from shared.messages import ID_PATTERN, TEXT_PATTERN, Answer, Request

_MESSAGES_MAX: Final = 100
# More than any budget holds, at one word each.
_READ_MAX: Final = 500

SessionName = Annotated[str, Meta(min_length=1, max_length=256, pattern=ID_PATTERN, description="Of the conversation")]


class Message(Request, frozen=True, kw_only=True):
    role: Role
    content: Annotated[str, Meta(pattern=TEXT_PATTERN)]
    name: Annotated[str, Meta(max_length=256, pattern=TEXT_PATTERN)] | None = None
    at: When | None = None
    id: Annotated[str, Meta(min_length=1, max_length=256, pattern=ID_PATTERN)] | None = None


class RecordMessages(Request, frozen=True, kw_only=True):
    session_id: SessionName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=_MESSAGES_MAX, description="In order")]


class Recorded(Answer, frozen=True, kw_only=True):
    """`known` were stored before, under the same ids. `messages` are those of the session."""

    session_id: str
    stored: int
    known: int
    messages: int


class GetSession(Request, frozen=True, kw_only=True):
    session_id: SessionName
    before: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="next_before of the page before")] | None = None
    max_tokens: Annotated[int, Meta(ge=500, le=20_000, description="Size of the answer")] = 4000


async def record_messages(service: MemoryService, caller: Caller, arguments: RecordMessages) -> Told:
    user_id, tenant = user_of(caller, service.settings.mcp_user), caller.principal.tenant
    session_id = arguments.session_id
    await refuse_foreign(service, tenant, user_id, session_id)
    turns = [
        TurnIn(
            id=each.id,
            role=each.role,
            content=each.content,
            name=each.name,
            created_at=moment_of(each.at, f"messages[{index}].at"),
        )
        for index, each in enumerate(arguments.messages)
    ]
    try:
        answer = await service.append(tenant, session_id, AppendRequest(user_id=user_id, turns=turns), only_of=user_id)
    except Conflict as error:
        if error.errors:
            raise _renamed(error) from error
        # It became another's between the look and the write.
        raise NotFound(taken(session_id)) from error
    except InvalidFields as error:
        raise _renamed(error) from error
    stored = sum(turn.status == "stored" for turn in answer.turns)
    session = await service.session(tenant, session_id)
    facts = Recorded(session_id=session_id, stored=stored, known=len(answer.turns) - stored, messages=session.turns)
    known = f" {facts.known} were known already." if facts.known else ""
    text = f"Stored {stored} of {len(turns)} messages in session {session_id!r}.{known} It has {session.turns} now."
    return Told(text, facts)


async def get_session(service: MemoryService, caller: Caller, arguments: GetSession) -> Told:
    user_id, tenant = user_of(caller, service.settings.mcp_user), caller.principal.tenant
    session = await own_session(service, tenant, user_id, arguments.session_id)
    turns = await service.turns_before(tenant, session.id, before=arguments.before, limit=_READ_MAX + 1)
    # Only with the newest page: further back the words themselves are read.
    spans = await outermost(service, tenant, session.id) if arguments.before is None else []
    has_earlier = len(turns) > _READ_MAX
    return told_session(session, turns[-_READ_MAX:], spans, has_earlier=has_earlier, tokens_max=arguments.max_tokens)


async def outermost(service: MemoryService, tenant: str, session_id: str) -> list[Span]:
    """The fewest summaries that stand for all that is folded, the oldest first."""
    found: list[Span] = []
    cursor: str | None = None
    while True:
        page = await service.span_page(tenant, session_id, SpansQuery(cursor=cursor, limit=1000))
        found += [span for span in page.items if span.parent_id is None]
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found, key=lambda span: span.first_seq)


def _renamed(error: ServiceError) -> ServiceError:
    """In the names of the tool's arguments."""

    def named(text: str) -> str:
        return text.replace("$.turns[", "messages[")

    errors = [FieldError(named(each.path), named(each.message)) for each in error.errors]
    return type(error)(named(error.detail), errors=errors)

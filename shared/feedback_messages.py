"""What somebody says of a search or a recall: messages of both services. docs/PROTOCOL.md has the contract.

A feedback is a query with what it was asked of, and a judgment of each item that somebody looked at. Judging the same item of
the same query again replaces the judgment before it.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from shared.messages import Answer, FilterObject, Id, PageQuery, Request, Text, Timestamp
from shared.retrieval_messages import Query

# As deep as a search goes: more of one query nobody looks at.
JUDGMENTS_MAX = 1000
# The highest grade of the usual golden sets. `right` is 1 and `wrong` is 0.
RELEVANCE_MAX = 3

# What every JSON library can hold.
CHUNK_ID_MAX = 2**53

Grade = Annotated[int, Meta(ge=0, le=RELEVANCE_MAX, description="0 is wrong, 3 is a perfect answer")]
Relevance = Grade | Literal["right", "wrong"]
Comment = Annotated[Text, Meta(max_length=2000)]
JudgedKind = Literal["turn", "fact"]


class DocumentJudgment(Request, frozen=True, kw_only=True):
    """Of a whole document, or with `chunk_id` of one of its chunks."""

    document_id: Id
    chunk_id: Annotated[int, Meta(ge=1, le=CHUNK_ID_MAX)] | None = None
    relevance: Relevance


class SearchFeedbackIn(Request, frozen=True, kw_only=True):
    """`judged_at` is now, if it is left out. Send it, and a retry or a late arrival replaces nothing newer."""

    collection: Id
    query: Query
    filter: FilterObject | None = None
    judgments: Annotated[list[DocumentJudgment], Meta(min_length=1, max_length=JUDGMENTS_MAX)]
    comment: Comment | None = None
    judged_at: Timestamp | None = None


class ItemJudgment(Request, frozen=True, kw_only=True):
    """Of a turn, which has its name within a session, or of a fact."""

    kind: JudgedKind = "turn"
    id: Id
    session_id: Id | None = None
    relevance: Relevance


class RecallFeedbackIn(Request, frozen=True, kw_only=True):
    """At least one of user_id, session_id and agent_id: whose memory was asked, as for a recall."""

    user_id: Id | None = None
    session_id: Id | None = None
    agent_id: Id | None = None
    query: Query
    as_of: Timestamp | None = None
    judgments: Annotated[list[ItemJudgment], Meta(min_length=1, max_length=JUDGMENTS_MAX)]
    comment: Comment | None = None
    judged_at: Timestamp | None = None


class FeedbackAnswer(Answer, frozen=True, kw_only=True):
    """`unchanged`: all of it was said before, or something newer was. `judged` counts the judgments that the query has now."""

    id: str
    status: Literal["created", "changed", "unchanged"]
    judged: int


class JudgedDocument(Answer, frozen=True, kw_only=True):
    """`key_id` is the key that judged, if one did."""

    document_id: str
    chunk_id: int | None = None
    relevance: int
    judged_at: datetime
    key_id: str | None = None


class SearchFeedback(Answer, frozen=True, kw_only=True):
    """`judged_at` is the newest judgment's."""

    id: str
    collection: str
    query: str
    filter: FilterObject | None = None
    judgments: list[JudgedDocument]
    comment: str | None = None
    created_at: datetime
    judged_at: datetime


class JudgedItem(Answer, frozen=True, kw_only=True):
    """A turn has its session and number."""

    kind: JudgedKind
    id: str
    session_id: str | None = None
    seq: int | None = None
    relevance: int
    judged_at: datetime
    key_id: str | None = None


class RecallFeedback(Answer, frozen=True, kw_only=True):
    """Where a session was asked, `user_id` and `agent_id` are those that it belongs to."""

    id: str
    user_id: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    query: str
    as_of: datetime | None = None
    judgments: list[JudgedItem]
    comment: str | None = None
    created_at: datetime
    judged_at: datetime


class SearchFeedbackPage(Answer, frozen=True, kw_only=True):
    items: list[SearchFeedback]
    next_cursor: str | None = None


class RecallFeedbackPage(Answer, frozen=True, kw_only=True):
    items: list[RecallFeedback]
    next_cursor: str | None = None


class SearchFeedbackQuery(PageQuery, frozen=True, kw_only=True):
    """`since` and `until` are of the newest judgment."""

    collection: Id | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


class RecallFeedbackQuery(PageQuery, frozen=True, kw_only=True):
    """One of the three that say whose, or `everything` of the tenant, for which the scope admin is needed."""

    user_id: Id | None = None
    session_id: Id | None = None
    agent_id: Id | None = None
    everything: bool = False
    since: Timestamp | None = None
    until: Timestamp | None = None

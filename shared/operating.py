"""The routes for whoever operates a service; both services have them."""

from typing import Protocol

from shared.messages import CheckReport, Deleted, Snapshot, SnapshotList
from shared.routes import Call, Route
from shared.snapshots import Snapshots
from shared.users import not_for_users


class Operated(Protocol):
    """What a service offers its operator."""

    snapshots: Snapshots

    async def check(self) -> CheckReport:
        """Of all tenants, so only for who may administer the server."""
        ...


async def check(service: Operated, _call: Call[None, None]) -> CheckReport:
    return await service.check()


async def create_snapshot(service: Operated, _call: Call[None, None]) -> Snapshot:
    return await service.snapshots.create()


async def list_snapshots(service: Operated, _call: Call[None, None]) -> SnapshotList:
    return await service.snapshots.listed()


async def delete_snapshot(service: Operated, call: Call[None, None]) -> Deleted:
    await service.snapshots.delete(call.path["snapshot"])
    return Deleted(deleted=1)


OPERATING_ROUTES = (
    Route(
        method="POST",
        path="/v1/check",
        summary="Compare every projection with the truth",
        handler=check,
        scope="admin",
        for_user=not_for_users,
        answers={200: CheckReport},
        takes_long=True,
    ),
    Route(
        method="POST",
        path="/v1/snapshots",
        summary="Copy the whole truth into a folder on the server, while it runs",
        handler=create_snapshot,
        scope="admin",
        for_user=not_for_users,
        answers={200: Snapshot},
        takes_long=True,
    ),
    Route(
        method="GET",
        path="/v1/snapshots",
        summary="List snapshots, oldest first",
        handler=list_snapshots,
        scope="admin",
        for_user=not_for_users,
        answers={200: SnapshotList},
    ),
    Route(
        method="DELETE",
        path="/v1/snapshots/{snapshot}",
        summary="Delete a snapshot",
        handler=delete_snapshot,
        scope="admin",
        for_user=not_for_users,
        answers={200: Deleted},
    ),
)

"""Snapshots of the dense index: one file of arrays and a manifest that says what must be in it.

The manifest is the commit. The arrays are written to a file of their own and synced before the manifest that names them
takes the place of the one before, so a crash at any moment leaves the old snapshot or the new one. Whatever does not fit its
manifest (cut short, changed, of another model or form) is refused as a whole; the truth can make it again.
"""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrieval.indexes.dense import DTYPES, DenseIndex, DenseState
from retrieval.indexes.kernels import Codes, Int64Array
from retrieval.indexes.lists import Lists, with_members
from retrieval.indexes.vector_rows import GrowingRows
from retrieval.truth.records import VectorStorage
from shared.errors import DiptychError

# Raise it when the layout changes, so that older snapshots are made anew. In 2 the rows of a list stand side by side.
FORMAT: Final = 2
_MANIFEST: Final = "manifest.json"
_WRITTEN_ROWS: Final = 4096
_READ_BYTES: Final = 4 * 1024 * 1024


class BadSnapshot(DiptychError):
    """There is no snapshot that can be trusted; the index starts from the truth."""


class ListsShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    count: int
    listed: int
    probes: int
    trained: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`file` holds, one after the other: ids, the list of each listed row, centroids, vectors; little-endian."""

    format: int
    model: str
    dimensions: int
    storage: VectorStorage
    sequence: int
    count: int
    lists: ListsShape | None
    file: str
    bytes: int
    sha256: str


def save(directory: Path, index: DenseIndex, model: str) -> Manifest:
    """Writes what the index holds now; changes may go on meanwhile. Raises OSError where the disk does not take it."""
    state = index.state
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{state.sequence}-{uuid.uuid4().hex}.vectors"
    digest, size = hashlib.sha256(), 0
    living = state.rows.living_rows()
    with contextlib.ExitStack() as stack:
        stack.callback((directory / name).unlink, missing_ok=True)
        with (directory / name).open("xb") as file:
            for piece in _pieces(state, living):
                content = piece.data.cast("B") if piece.size else b""
                file.write(content)
                digest.update(content)
                size += len(content)
            _sync(file)
        manifest = Manifest(
            format=FORMAT,
            model=model,
            dimensions=index.dimensions,
            storage=index.storage,
            sequence=state.sequence,
            count=len(living),
            lists=_shape(state, living),
            file=name,
            bytes=size,
            sha256=digest.hexdigest(),
        )
        _publish(directory, manifest)
        stack.pop_all()
    _remove_others(directory, keep={_MANIFEST, name})
    return manifest


def load(directory: Path, index: DenseIndex, model: str) -> Manifest | None:
    """Fills an empty index from the directory's snapshot; None where there is none. Raises BadSnapshot."""
    try:
        manifest = read_manifest(directory)
        if manifest is None:
            return None
        if (manifest.format, manifest.model, manifest.dimensions, manifest.storage) != (
            FORMAT,
            model,
            index.dimensions,
            index.storage,
        ):
            raise BadSnapshot(f"the snapshot is of another form or model: {manifest}")
        with (directory / manifest.file).open("rb") as file:
            growing, lists = _read(file, manifest)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise BadSnapshot(str(error)) from error
    index.restore(growing, lists, manifest.sequence)
    return manifest


def read_manifest(directory: Path) -> Manifest | None:
    """None where there is none. Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode((directory / _MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


def problems(directory: Path) -> list[str]:
    """For `check`: what is wrong with the snapshot there, read whole. Blocking."""
    try:
        manifest = read_manifest(directory)
        if manifest is None:
            return []
        digest = hashlib.sha256()
        with (directory / manifest.file).open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except (OSError, msgspec.DecodeError) as error:
        return [f"the snapshot of the dense index cannot be read: {error}"]
    return [] if digest.hexdigest() == manifest.sha256 else ["the snapshot of the dense index is damaged"]


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _shape(state: DenseState, living: Int64Array) -> ListsShape | None:
    if state.lists is None:
        return None
    return ListsShape(
        count=len(state.lists.centroids),
        listed=int(np.searchsorted(living, state.lists.listed)),
        probes=state.lists.probes,
        trained=state.lists.trained,
    )


def _pieces(state: DenseState, living: Int64Array) -> Iterator[NDArray[np.generic]]:
    yield np.ascontiguousarray(state.rows.ids[living])
    if state.lists is not None:
        yield state.lists.list_of[living[living < state.lists.listed]]
        yield state.lists.centroids
    for start in range(0, len(living), _WRITTEN_ROWS):
        yield state.rows.codes[living[start : start + _WRITTEN_ROWS]]


def _read(file: BinaryIO, manifest: Manifest) -> tuple[GrowingRows, Lists | None]:
    if os.fstat(file.fileno()).st_size != manifest.bytes:
        raise BadSnapshot(f"the snapshot has not the {manifest.bytes} bytes of its manifest")
    digest = hashlib.sha256()
    count, shape = manifest.count, manifest.lists
    list_of = np.empty(shape.listed if shape else 0, dtype=np.int32)
    centroids = np.empty((shape.count if shape else 0, manifest.dimensions), dtype=np.float32)

    def read(ids: Int64Array, codes: Codes) -> None:
        for array in (ids, list_of, centroids, codes):
            _read_into(file, array, digest)

    growing = GrowingRows(manifest.dimensions, DTYPES[manifest.storage], capacity=count + count // 8)
    growing.fill(count, read)
    if digest.hexdigest() != manifest.sha256:
        raise BadSnapshot("the snapshot is not what its manifest says")
    if shape is None:
        return growing, None
    return growing, with_members(centroids, list_of, growing.rows(), probes=shape.probes, trained=shape.trained)


def _read_into(file: BinaryIO, array: NDArray[np.generic], digest: "hashlib._Hash") -> None:
    if not array.size:
        return
    content = array.data.cast("B")
    for start in range(0, len(content), _READ_BYTES):
        piece = content[start : start + _READ_BYTES]
        if file.readinto(piece) != len(piece):  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
            raise BadSnapshot("the snapshot ends early")
        digest.update(piece)


def _publish(directory: Path, manifest: Manifest) -> None:
    temporary = directory / f"{_MANIFEST}.{uuid.uuid4().hex}"
    with temporary.open("xb") as file:
        file.write(msgspec.json.encode(manifest))
        _sync(file)
    temporary.replace(directory / _MANIFEST)
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _remove_others(directory: Path, *, keep: set[str]) -> None:
    for file in directory.iterdir():
        if file.name not in keep:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

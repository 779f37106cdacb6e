"""What `check` finds when it lays a collection's projections beside the truth."""

import numpy as np

from retrieval.indexes.dense import DTYPES, DenseIndex
from retrieval.indexes.lexical import LexicalIndex

# A megabyte or two of vectors at a time.
_COMPARED_ROWS = 1000


def differences(dense: DenseIndex, lexical: LexicalIndex, truth: dict[int, bytes]) -> list[str]:
    problems = [f"chunk {chunk_id} has no vector" for chunk_id, vector in truth.items() if not vector]
    for leg, ids in (("dense", dense.ids()), ("lexical", lexical.ids())):
        if missing := truth.keys() - ids:
            problems.append(f"the {leg} index misses {len(missing)} chunks, such as {min(missing)}")
        if surplus := ids - truth.keys():
            problems.append(f"the {leg} index has {len(surplus)} chunks that are gone, such as {min(surplus)}")
    different = _other_vectors(dense, truth)
    if different:
        problems.append(f"the dense index has other vectors for {len(different)} chunks, such as {different[0]}")
    return problems + _list_problems(dense)


def _other_vectors(dense: DenseIndex, truth: dict[int, bytes]) -> list[int]:
    """Compared bit by bit, after the rounding that the storage asks for."""
    shared_ids = sorted(chunk_id for chunk_id in truth.keys() & dense.ids() if truth[chunk_id])
    dtype = DTYPES[dense.storage]
    different: list[int] = []
    for start in range(0, len(shared_ids), _COMPARED_ROWS):
        some = shared_ids[start : start + _COMPARED_ROWS]
        expected = np.frombuffer(b"".join(truth[chunk_id] for chunk_id in some), dtype="<f4").reshape(len(some), -1)
        rounded = expected.astype(dtype).astype(np.float32)
        same = (dense.vectors(some).view(np.uint32) == rounded.view(np.uint32)).all(axis=1)
        different += [chunk_id for chunk_id, is_same in zip(some, same, strict=True) if not is_same]
    return different


def _list_problems(dense: DenseIndex) -> list[str]:
    """Every living row below the tail stands in exactly the list that it is said to stand in."""
    state = dense.state
    if state.lists is None:
        return []
    lists = state.lists
    listed = state.rows.living_rows()
    listed = listed[listed < lists.listed]
    found = np.sort(state.rows.alive(lists.members))
    if len(found) != len(listed) or (found != listed).any():
        return ["the lists of the dense index do not hold each chunk once"]
    standing = np.repeat(np.arange(len(lists.centroids)), np.diff(lists.offsets))
    if (lists.list_of[lists.members] != standing).any():
        return ["the lists of the dense index hold chunks of other lists"]
    return []

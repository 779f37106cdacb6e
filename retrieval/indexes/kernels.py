"""Arithmetic on vectors: inner products, half precision, k-means. The only importer of faiss.

FAISS is used for what it is fastest at, SIMD loops that let the interpreter go; the rows they run over stay ours, so that
a filter, a tombstone and a tail of new writes are only different choices of rows.
"""

import threading
from typing import Any, Final

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from shared.vectors import Float32Array

Int64Array = NDArray[np.int64]
# float32 or float16: how vectors are kept.
Codes = NDArray[Any]

# Half precision is decoded in pieces that stay in the cache.
_DECODED_ROWS: Final = 2048

# Its functions are generated and carry no types.
faiss: Any = _faiss
_threads = threading.local()


def inner_products(vector: Float32Array, codes: Codes, rows: Int64Array | None = None) -> Float32Array:
    """Of a vector of shape (d,) with the chosen rows of `codes`, or all of them, in their order. `codes` is C-contiguous."""
    _use_one_thread()
    count = len(codes) if rows is None else len(rows)
    products: Float32Array = np.empty(count, dtype=np.float32)
    if not count:
        return products
    vector = np.ascontiguousarray(vector, dtype=np.float32)
    if codes.dtype == np.float16:
        _half_products(vector, codes, rows, products)
    elif rows is None:
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(products), faiss.swig_ptr(vector), faiss.swig_ptr(codes), codes.shape[1], count
        )
    else:
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        pointers = (faiss.swig_ptr(each) for each in (products, vector, codes, rows))
        faiss.fvec_inner_products_by_idx(*pointers, codes.shape[1], 1, count)
    return products


def decoded(codes: Codes) -> Float32Array:
    """Rows as float32, shape (rows, d)."""
    if codes.dtype != np.float16:
        return np.asarray(codes, dtype=np.float32)
    dimensions = codes.shape[1]
    quantizer = faiss.ScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_fp16)
    found: Float32Array = quantizer.decode(np.ascontiguousarray(codes).view(np.uint8).reshape(len(codes), -1))
    return found


def improve_centroids(sample: Float32Array, centroids: Float32Array, *, seed: int) -> Float32Array:
    """One round of spherical k-means: unit vectors, shape (count, d), that stand better for the sample, shape (n, d)."""
    _use_one_thread()
    clustering = faiss.Kmeans(
        sample.shape[1],
        len(centroids),
        niter=1,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    clustering.train(np.ascontiguousarray(sample), init_centroids=np.ascontiguousarray(centroids))
    found: Float32Array = np.ascontiguousarray(clustering.centroids, dtype=np.float32)
    return found


def nearest_centroids(vectors: Float32Array, centroids: Float32Array) -> NDArray[np.int32]:
    """The row of the nearest centroid for each of the vectors, shape (n, d)."""
    _use_one_thread()
    _, nearest = faiss.knn(np.ascontiguousarray(vectors), centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)
    found: NDArray[np.int32] = nearest[:, 0].astype(np.int32)
    return found


def _half_products(vector: Float32Array, codes: Codes, rows: Int64Array | None, products: Float32Array) -> None:
    for start in range(0, len(products), _DECODED_ROWS):
        stop = min(start + _DECODED_ROWS, len(products))
        some = decoded(codes[start:stop] if rows is None else codes[rows[start:stop]])
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(products[start:stop]),
            faiss.swig_ptr(vector),
            faiss.swig_ptr(some),
            codes.shape[1],
            stop - start,
        )


def _use_one_thread() -> None:
    """Parallelism comes from requests: a second OpenMP thread made one query six times slower on two busy cores.

    OpenMP keeps the setting apart for each thread that calls.
    """
    if not getattr(_threads, "is_set", False):
        faiss.omp_set_num_threads(1)
        _threads.is_set = True

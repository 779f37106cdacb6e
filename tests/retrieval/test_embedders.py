"""One contract for everything that computes the model; sentence-transformers in fp32 is what the others are held to."""

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from retrieval.models.backends import Backend, ModelChoice, Precision, load_embedder
from retrieval.models.embedder import Embedder
from shared.vectors import Float32Array
from tests.retrieval.models import MODEL, copy_model

TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "",
    "   \n\t ",
    "naïve café 😀👩‍👩‍👧 ﷽ \u200b",
    "検索と記憶のための文脈 검색 搜索",
    "def embed(texts): return [hash(text) % 7 for text in texts]  # x = 0x7f",
    "Boundary layer flow over a flat plate in supersonic air was measured at three Reynolds numbers. " * 4,
    "word " * 2000,
    "A" * 5000,
    "aerodynamics",
)
# How far from 1 the cosine to the reference may be, and that of the same text in another batch.
TOLERANCES: Final[dict[tuple[Backend, Precision], float]] = {
    ("torch", "fp32"): 1e-5,
    ("onnx", "fp32"): 1e-5,
    ("onnx", "int8"): 6e-3,
    ("openvino", "fp32"): 1e-5,
    ("openvino", "int8"): 1e-2,
}


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session", params=TOLERANCES, ids="-".join)
def choice(request: pytest.FixtureRequest, models_dir: Path) -> ModelChoice:
    backend, precision = request.param
    return ModelChoice(name=MODEL, backend=backend, precision=precision, models_dir=models_dir)


@pytest.fixture(scope="session")
def embedder(choice: ModelChoice) -> Embedder:
    return load_embedder(choice)


@pytest.fixture(scope="session")
def reference(models_dir: Path) -> Float32Array:
    torch = load_embedder(ModelChoice(name=MODEL, backend="torch", models_dir=models_dir))
    return np.concatenate([torch.embed([text], "document") for text in TEXTS])


def disagreement(left: Float32Array, right: Float32Array) -> float:
    return float(1 - (left * right).sum(axis=1).min())


def test_it_says_what_it_is(embedder: Embedder, choice: ModelChoice) -> None:
    assert (embedder.name, embedder.dimensions, embedder.tokens_max) == (MODEL, 384, 254)
    assert (embedder.backend, embedder.precision) == (choice.backend, choice.precision)


def test_vectors_have_unit_length_and_the_order_of_the_texts(
    embedder: Embedder, choice: ModelChoice, reference: Float32Array
) -> None:
    vectors = embedder.embed(TEXTS, "document")

    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert disagreement(vectors, reference) <= TOLERANCES[choice.backend, choice.precision]


def test_what_else_is_in_the_batch_does_not_change_a_vector(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS, "document")
    alone = np.concatenate([embedder.embed([text], "document") for text in TEXTS])

    # int8 rounds what fp32 sums in another order, so a few values fall to the other side.
    assert disagreement(together, alone) <= (1e-6 if embedder.precision == "fp32" else 1e-3)


def test_the_same_call_gives_the_same_bits_and_leaves_the_last_ones_alone(embedder: Embedder) -> None:
    first = embedder.embed(TEXTS[:3], "query")
    kept = first.copy()
    embedder.embed(TEXTS[3:6], "query")

    np.testing.assert_array_equal(embedder.embed(TEXTS[:3], "query"), kept)
    np.testing.assert_array_equal(first, kept)


def test_a_text_past_the_limit_is_cut_and_not_refused(embedder: Embedder) -> None:
    limit = embedder.tokens_max
    cut, longer, shorter = embedder.embed(
        ["word " * limit, "word " * limit + "entirely different ending", "word " * (limit - 60)], "document"
    )

    assert disagreement(cut[None], longer[None]) < 1e-5
    assert not np.array_equal(cut, shorter)


def test_token_starts_are_offsets_into_the_whole_text(embedder: Embedder) -> None:
    text = "Über naïve tokenizers 😀"

    starts = embedder.token_starts(text)

    assert [text[start] for start in starts][:2] == ["Ü", "n"]
    assert len(embedder.token_starts("word " * 2000)) == 2000
    assert list(embedder.token_starts("")) == []


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_prompts_and_pooling_of_a_model_given_by_path_are_honoured(tmp_path: Path, pooling: str) -> None:
    path = copy_model(
        tmp_path / "model",
        config_sentence_transformers={"prompts": {"query": "find: ", "document": "text: "}},
        pooling={"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"},
    )
    ours, torch = (
        load_embedder(ModelChoice(name=str(path), backend=backend, precision="fp32", models_dir=tmp_path / "made"))
        for backend in ("onnx", "torch")
    )

    for kind in ("query", "document"):
        assert disagreement(ours.embed(TEXTS[:4], kind), torch.embed(TEXTS[:4], kind)) < 1e-5
    assert disagreement(ours.embed(TEXTS[:1], "query"), ours.embed(TEXTS[:1], "document")) > 1e-3

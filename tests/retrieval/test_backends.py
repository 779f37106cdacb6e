"""Which runtime is taken, what is refused, and the files that are kept between two starts."""

import hashlib
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest

from retrieval.app import build_retrieval
from retrieval.models.backends import ModelChoice, Precision, choose_precision, load_embedder, processor_features
from retrieval.models.cache import cached_file
from retrieval.models.files import NotConvertible, read_encoder
from retrieval.settings import RetrievalSettings
from shared.errors import SettingsError
from tests.retrieval.models import MODEL, copy_model, packaged


@pytest.mark.parametrize(
    ("asked", "features", "chosen"),
    [
        ("auto", {"avx2", "avx512_vnni"}, "int8"),
        ("auto", {"avx2", "avx_vnni"}, "int8"),
        ("auto", {"asimd", "asimddp"}, "int8"),
        ("auto", {"avx2"}, "fp32"),
        ("auto", set(), "fp32"),
        ("int8", {"avx2"}, "int8"),
        ("fp32", {"avx512_vnni"}, "fp32"),
    ],
)
def test_int8_is_taken_where_the_processor_computes_it_exactly(
    asked: Precision, features: set[str], chosen: str
) -> None:
    assert choose_precision(asked, lambda: frozenset(features)) == chosen


def test_the_packaged_model_is_computed_by_onnx_when_nothing_is_asked_for(tmp_path: Path) -> None:
    embedder = load_embedder(ModelChoice(name=MODEL, models_dir=tmp_path))

    assert (embedder.backend, embedder.precision) == ("onnx", choose_precision("auto", processor_features))


def test_a_model_that_our_graph_does_not_know_is_left_to_torch(tmp_path: Path) -> None:
    path = copy_model(tmp_path / "model", pooling={"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True})

    assert load_embedder(ModelChoice(name=str(path), models_dir=tmp_path)).backend == "torch"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": {"model_type": "mpnet"}}, "its model_type is 'mpnet'"),
        ({"config": {"hidden_act": "relu"}}, "its hidden_act is 'relu'"),
        ({"config": {"position_embedding_type": "relative_key"}}, "its position_embedding_type"),
        ({"pooling": {"pooling_mode_max_tokens": True}}, "its pooling is"),
        ({"pooling": {"include_prompt": False}}, "its include_prompt is False"),
        ({"sentence_bert_config": {"do_lower_case": True}}, "its do_lower_case is True"),
        ({"config_sentence_transformers": {"prompts": {"passage": "p: "}}}, "its prompt for documents"),
    ],
)
def test_what_the_graph_would_compute_wrong_is_not_converted(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = copy_model(tmp_path / "model", **changes)

    with pytest.raises(NotConvertible, match=reason):
        read_encoder(path)


def test_a_folder_with_other_modules_or_without_weights_is_not_converted(tmp_path: Path) -> None:
    dense, empty = copy_model(tmp_path / "dense"), copy_model(tmp_path / "empty")
    (dense / "modules.json").write_text(
        (dense / "modules.json").read_text().replace("models.Normalize", "models.Dense")
    )
    (empty / "model.safetensors").unlink()

    with pytest.raises(NotConvertible, match="made of Transformer, Pooling, Dense"):
        read_encoder(dense)
    with pytest.raises(NotConvertible, match=r"has no model\.safetensors"):
        read_encoder(empty)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "no/such-model"}, "'no/such-model' could not be loaded"),
        ({"name": "no/such-model", "backend": "onnx"}, "is no folder, and onnx needs its files"),
        ({"name": "no/such-model", "precision": "int8"}, "is no folder, and int8 needs its files"),
        ({"name": MODEL, "backend": "torch", "precision": "int8"}, "torch computes in fp32"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(tmp_path: Path, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_embedder(ModelChoice(models_dir=tmp_path, **choice))


def test_a_backend_that_does_not_exist_is_refused_by_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="embedding_backend"):
        build_retrieval(RetrievalSettings(data_dir=tmp_path, embedding_backend="tpu"))


class TestKeptFiles:
    def test_a_file_is_made_once(self, tmp_path: Path) -> None:
        made: list[int] = []

        def make() -> bytes:
            made.append(1)
            return b"model"

        paths = [cached_file(tmp_path / "models", "a.onnx", make) for _ in range(3)]

        assert (len(made), paths[2].read_bytes()) == (1, b"model")

    @pytest.mark.parametrize("damage", ["cut", "changed", "no digest", "gone", "a part left over"])
    def test_a_damaged_file_is_made_again(self, tmp_path: Path, damage: str) -> None:
        path = cached_file(tmp_path, "a.onnx", lambda: b"model" * 100)
        match damage:
            case "cut":
                path.write_bytes(b"model")
            case "changed":
                path.write_bytes(b"nodel" + b"model" * 99)
            case "no digest":
                (tmp_path / "a.onnx.sha256").unlink()
            case "gone":
                path.unlink()
            case _:
                path.rename(tmp_path / "a.onnx.part")

        again = cached_file(tmp_path, "a.onnx", lambda: b"model" * 100)

        assert again.read_bytes() == b"model" * 100
        assert (tmp_path / "a.onnx.sha256").read_text() == hashlib.sha256(b"model" * 100).hexdigest()

    def test_a_model_that_was_damaged_on_disk_still_starts(self, tmp_path: Path) -> None:
        choice = ModelChoice(name=MODEL, backend="onnx", precision="fp32", models_dir=tmp_path)
        before = load_embedder(choice).embed(["text"], "query")
        (kept,) = tmp_path.glob("*/fp32.onnx")
        kept.write_bytes(kept.read_bytes()[:-1000])

        assert (load_embedder(choice).embed(["text"], "query") == before).all()

    def test_other_weights_under_the_same_name_are_another_file(self, tmp_path: Path) -> None:
        path = copy_model(tmp_path / "model")
        first = read_encoder(path).digest()
        (path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
        limited = read_encoder(path).digest()
        shutil.copy(packaged() / "tokenizer.json", path / "model.safetensors")

        assert len({first, limited, read_encoder(path).digest()}) == 3

    def test_processes_that_start_at_once_convert_once_and_all_get_it(self, tmp_path: Path) -> None:
        with multiprocessing.get_context("spawn").Pool(3) as pool:
            answers = pool.map(_convert_and_report, [str(tmp_path)] * 3)

        assert len(set(answers)) == 1
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("made-")] == [f"made-{answers[0]}"]


def _convert_and_report(directory: str) -> str:
    """Whoever makes the file leaves a mark with what it made, different in every process."""
    mine = str(multiprocessing.current_process().pid)

    def make() -> bytes:
        Path(directory, f"made-{mine}").touch()
        return mine.encode()

    return cached_file(Path(directory), "a.onnx", make).read_bytes().decode()

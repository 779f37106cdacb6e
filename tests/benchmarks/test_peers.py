"""What is measured beside us: asked through a process of its own, judged by the same rules, and not able to end a run."""

import ast
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.judged_corpus import Corpus, mean_ndcg, recall
from benchmarks.load import json_request_bytes
from benchmarks.measured import best_marked, share
from benchmarks.measuring import in_turns
from benchmarks.peer_process import PeerFailed, running_peer
from benchmarks.talks import Asked, Said, cut, found_share
from shared.errors import SettingsError

PEERS = Path(benchmarks.__file__).parent / "peers"


class TestScores:
    def test_recall_is_the_mean_share_of_the_nearest_that_were_found_in_any_order(self) -> None:
        assert recall([[3, 2, 1], [9, 8, 7]], [[1, 2, 3], [7, 1, 2]]) == round((1 + 1 / 3) / 2, 4)

    def test_ndcg_is_one_where_the_relevant_come_first_by_grade(self) -> None:
        assert mean_ndcg([[5, 6, 1], [0, 1, 2]], [{5: 2, 6: 1}, {0: 1}]) == 1.0

    def test_ndcg_discounts_by_the_rank(self) -> None:
        assert mean_ndcg([[9, 5]], [{5: 1}]) == round(1 / math.log2(3), 4)
        assert mean_ndcg([[9, 8]], [{5: 1}]) == 0.0

    def test_the_nearest_are_those_of_a_plain_scan(self) -> None:
        vectors = np.eye(12, dtype=np.float32)
        corpus = Corpus(
            model="m",
            texts=["t"] * 12,
            vectors=vectors,
            asked=["q"],
            queries=np.add(vectors[3:4], vectors[7:8] * np.float32(0.5), dtype=np.float32),
            relevant=[],
        )
        assert corpus.nearest()[0][:2] == [3, 7]
        assert len(corpus.nearest()[0]) == 10


class TestTalks:
    def test_only_questions_that_the_kept_turns_answer_are_asked_spread_over_all_of_them(self) -> None:
        said = [Said("s", f"t{number}", "Ann", "text", datetime(2026, 1, 1, tzinfo=UTC)) for number in range(6)]
        asked = [Asked(f"q{number}", frozenset({f"t{number}"})) for number in range(6)]
        talk = cut("u", said, asked, turns_max=4, questions_max=2)
        assert [each.turn for each in talk.said] == ["t0", "t1", "t2", "t3"]
        assert [each.query for each in talk.asked] == ["q0", "q2"]

    def test_the_share_is_of_the_evidence(self) -> None:
        assert found_share(["a", "x"], Asked("q", frozenset({"a", "b"}))) == 0.5


class TestTables:
    def test_the_best_of_a_column_is_bold_whoever_has_it_and_so_is_what_looks_the_same(self) -> None:
        assert best_marked([0.5, 0.9, None, 0.9001], share, is_least_best=False) == [".500", "**.900**", "", "**.900**"]
        assert best_marked([2.0, 1.0], str, is_least_best=True) == ["2.0", "**1.0**"]
        assert best_marked([None, None], share, is_least_best=True) == ["", ""]

    def test_whoever_was_first_with_a_block_is_last_with_the_next_one(self) -> None:
        assert in_turns("", 1) == []
        assert ["".join(in_turns("abc", number)) for number in range(4)] == ["abc", "bca", "cab", "abc"]


class TestRequests:
    def test_another_server_is_asked_in_json_with_the_length_of_the_body(self) -> None:
        sent = json_request_bytes("http://127.0.0.1:8000", "/query", {"n": 10})
        head, _, body = sent.partition(b"\r\n\r\n")
        assert body == b'{"n":10}'
        assert head.splitlines()[0] == b"POST /query HTTP/1.1"
        assert b"Content-Length: 8" in head
        assert b"Content-Type: application/json" in head


class TestProcess:
    @pytest.mark.blocking
    async def test_without_the_environment_it_says_how_to_get_it(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="make bench-peers-env"):
            async with running_peer(tmp_path / "python", "vectors", "lancedb", tmp_path):
                pass

    @pytest.mark.blocking
    async def test_what_a_peer_complains_about_is_the_reason_that_it_is_listed_with(self, tmp_path: Path) -> None:
        async with running_peer(Path(sys.executable), "vectors", "no such peer", tmp_path) as peer:
            for _ in range(2):
                with pytest.raises(PeerFailed, match="FileNotFoundError"):
                    await peer.ask("about")

    def test_what_runs_where_diptych_is_not_installed_imports_nothing_of_ours(self) -> None:
        ours = {"diptych", "memory", "retrieval", "shared", "evals", "tests", "msgspec", "click"}
        for path in PEERS.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    assert name.split(".")[0] not in ours, f"{path.name} imports {name}"
                    assert not name.startswith("benchmarks") or name.startswith("benchmarks.peers")

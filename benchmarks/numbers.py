"""What pages say of the results: each function makes one piece of Markdown, a phrase or a table. Pure, but for reading results."""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.ablation_numbers import ABLATION_NUMBERS
from benchmarks.measured import Measured, milliseconds, share, table
from benchmarks.peer_numbers import (
    memory_peers,
    memory_peers_absent,
    memory_peers_machine,
    memory_peers_versions,
    memory_peers_what,
    vector_peers,
    vector_peers_absent,
    vector_peers_machine,
    vector_peers_versions,
    vector_peers_what,
)

# Of a span, as the README has it: of what it stands for.
_SPAN_BUDGET: Final = 0.2
_LEDGER_KINDS: Final = ("path", "id", "command", "number")
_LEGS: Final = (
    ("words alone (BM25)", "lexical"),
    ("meaning alone (all-MiniLM-L6-v2)", "dense"),
    ("both, reciprocal rank fusion", "rrf"),
    ("**both, as Diptych does by default**", "adaptive"),
)
_RESULTS: Final = (
    "latency",
    "throughput",
    "filtered",
    "million-float32",
    "collections",
    "ingest",
    "embedding",
    "wire",
    "mcp",
    "memory-writes",
    "memory-scale-100000",
    "compaction",
    "forgetting",
    "forgetting_crashes",
    "recovery",
    "soak",
    "retrieval-peers",
    "retrieval-peers-100000",
    "memory-peers",
)
_CONTEXTS: Final = ("the user's memory", "the user's memory, all folded")
_RECALLS: Final = (
    ("BM25 over the turns", "bare BM25"),
    ("all-MiniLM-L6-v2 over the turns", "bare dense"),
    ("both, reciprocal rank fusion", "bare RRF"),
    ("**recalled by Diptych**", "hybrid"),
)


def finding_documents(measured: Measured) -> str:
    judged = measured.judged("retrieval")
    sets = {
        "scifact": "scientific claims (scifact test)",
        "cranfield": "aerodynamics (cranfield, even queries)",
        "cosqa": "questions to code (cosqa)",
    }
    rows = []
    for label, way in _LEGS:
        cells = [share(judged[name]["ways"][way]["ndcg_10"]) for name in sets]
        rows.append((label, *(f"**{cell}**" if way == "adaptive" else cell for cell in cells)))
    return table(("", *sets.values()), rows)


def finding_turns(measured: Measured) -> str:
    judged = measured.judged("memory")
    sets = {
        "locomo": "talks of two people over months (LoCoMo)",
        "beam-100k": "long chats with an assistant (BEAM 100k)",
    }
    rows = []
    for label, way in _RECALLS:
        cells = [share(judged[name]["ways"][way]["overall"]["share"]["10"]) for name in sets]
        rows.append((label, *(f"**{cell}**" if way == "hybrid" else cell for cell in cells)))
    whole = [[judged[name]["contexts"][each]["share"] for each in _CONTEXTS] for name in sets]
    cells = [", ".join(share(each) for each in shares) for shares in whole]
    rows.append(("in a context, before and after all sessions are compacted", *cells))
    return table(("", *sets.values()), rows)


def kept_in_spans(measured: Measured) -> str:
    foldings = measured.of("compaction")["foldings"]
    kinds = next(each["kinds"] for each in foldings if each["budget"] == _SPAN_BUDGET)
    shares = [kinds[kind]["survived"] / kinds[kind]["planted"] for kind in _LEDGER_KINDS]
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"


def speeds(measured: Measured) -> str:
    """One call at a time; each row names what it was measured on."""
    calls, writes = measured.calls, measured.of("memory-writes")
    scale, throughput = measured.of("memory-scale-100000"), measured.of("throughput")
    latency = measured.of("latency")
    times = [
        ("append one turn, on disk when answered", writes["one_turn"]["append_ms"]),
        (f"search {latency['documents']:,} documents, a new query", calls["search, unseen query"]["ms"]),
        (f"search {latency['documents']:,} documents, a query seen before", calls["search, repeated query"]["ms"]),
        (f"search {throughput['chunks']:,} chunks, a new query", throughput["unseen"]["service_ms"]),
        (f"recall among a user's {latency['turns']} turns, a new query", calls["recall"]["ms"]),
        (
            f"context of 2,000 tokens from {latency['turns']} turns and the documents",
            calls["context, 2,000 tokens"]["ms"],
        ),
        (f"recall beside {scale['turns']:,} turns of {scale['users']} users, a query seen before", scale["recall_ms"]),
    ]
    return table(
        ("one call at a time, over HTTP", "p50 ms", "p95 ms"),
        [(what, milliseconds(ms["p50"]), milliseconds(ms["p95"])) for what, ms in times],
    )


def rates(measured: Measured) -> str:
    writes, throughput, ingest = measured.of("memory-writes"), measured.of("throughput"), measured.of("ingest")
    crowds = {
        (each["sessions"], each["turns_per_request"], each["folded_turns"] > 0): each for each in writes["crowds"]
    }
    single, folded = crowds[16, 1, False], crowds[16, 1, True]
    rate = ingest["rate"]
    crowd = throughput["crowds"][0]
    transfers = {each["what"]: each for each in writes["transfers"]}
    rows = [
        (
            f"hybrid searches of {throughput['clients']} clients in {throughput['chunks']:,} chunks",
            crowd["searches_per_s"],
        ),
        (f"turns appended by {single['writers']} writers, each on disk when answered", single["turns_per_s"]),
        ("the same for longer, while sessions are folded into spans", folded["turns_per_s"]),
        ("turns imported", transfers["import"]["turns_per_s"]),
        (
            f"chunks ingested, embedded and searchable (the model alone: {rate['bare_chunks_per_s'][0]:.0f})",
            rate["chunks_per_s"],
        ),
    ]
    return table(("all at once", "per second"), [(what, f"{number:,.0f}") for what, number in rows])


def encodings(measured: Measured) -> str:
    rows = []
    for message in measured.of("wire")["messages"]:
        text, packed = message["encoded"]
        rows.append(
            (
                message["what"],
                *(f"{each['bytes']:,}" for each in (text, packed)),
                f"{packed['bytes'] / text['bytes']:.2f}",
                *(f"{each['encode_us']['p50']:,.0f}" for each in (text, packed)),
                *(f"{each['decode_us']['p50']:,.0f}" for each in (text, packed)),
            )
        )
    titles = (
        "",
        "JSON bytes",
        "MessagePack",
        "of JSON",
        "JSON encode µs",
        "MessagePack",
        "JSON decode µs",
        "MessagePack",
    )
    return table(titles, rows)


def tool_calls(measured: Measured) -> str:
    rows = [
        (each["operation"], each["way"], milliseconds(each["ms"]["p50"]), milliseconds(each["ms"]["p95"]))
        for each in measured.of("mcp")["calls"]
    ]
    return table(("call", "over", "p50 ms", "p95 ms"), rows)


def filters(measured: Measured) -> str:
    found = measured.of("filtered")
    names = {"none": "no filter", "known": "a filter asked for before", "new": "a new filter"}
    rows = [
        (
            case["mode"],
            names[case["filter"]],
            case["keeps"],
            *(milliseconds(case[each]) for each in ("p50", "p95")),
            "" if case["recall"] is None else share(case["recall"]),
        )
        for case in found["cases"]
        if case["filter"] != "known"
    ]
    return table(("search", "with", "keeps", "p50 ms", "p95 ms", "recall@10"), rows)


def filters_what(measured: Measured) -> str:
    return f"{measured.of('filtered')['chunks']:,} chunks"


def crashes(measured: Measured) -> str:
    """Kills, and what was wrong after them."""
    rows = []
    for name, what in (("recovery", "both services"), ("forgetting_crashes", "memory, while it forgets")):
        rounds = measured.of(name)["rounds"]
        wrong = sum(len(each[kind]) for each in rounds for kind in ("lost", "back", "torn", "findings") if kind in each)
        # The last life is not killed: it looks at everything.
        rows.append((what, str(len(rounds) - 1), str(wrong)))
    return table(("SIGKILL of", "times", "acknowledged and lost, or back, or half there"), rows)


def endurance(measured: Measured) -> str:
    found = measured.of("soak")
    return (
        f"{found['minutes']:g} minutes at full load: {found['documents_written']:,} documents written, {found['searches']:,} searches, "
        f"{len(found['errors'])} errors, {len(found['differences'])} differences, {len(found['findings'])} findings of `check`"
    )


def backends(measured: Measured) -> str:
    rows = [
        (
            each["backend"],
            f"{each['documents_per_s']:.0f}",
            f"{each['times_reference']:.1f}",
            milliseconds(each["query_ms"]),
        )
        for each in measured.of("embedding")["speed"]
    ]
    return table(("backend", "documents/s", "times torch", "one query ms"), rows)


def million(measured: Measured) -> str:
    found = measured.of("million-float32")
    rows = [
        (
            f"{100 * each['keeps']:g} %",
            each["plan"].replace("_", " "),
            share(each["recall_at_10"]),
            *(milliseconds(each["ms"][part]) for part in ("p50", "p95", "p99")),
        )
        for each in found["searches"]
    ]
    return table(("keeps", "plan", "recall@10", "p50 ms", "p95 ms", "p99 ms"), rows)


def million_around(measured: Measured) -> str:
    found = measured.of("million-float32")
    return (
        f"taken in {found['take_in_s']:.0f} s, lists built in {found['build_s']:.0f} s (searches meanwhile: p95 "
        f"{milliseconds(found['beside_build_ms']['p95'])} ms), {found['resident_mib']:,} MiB resident, first answer after a restart "
        f"{found['restart_to_first_answer_s']:.1f} s"
    )


def collections_calls(measured: Measured) -> str:
    rows = [
        (each["what"], *(milliseconds(each["ms"][part]) for part in ("p50", "p95", "p99")))
        for each in measured.of("collections")["calls"]
    ]
    return table(("one call at a time", "p50 ms", "p95 ms", "p99 ms"), rows)


def collections_held(measured: Measured) -> str:
    rows = [
        (each["when"], f"{each['resident_mib']:.0f}", str(each["threads"]), str(each["handles"]))
        for each in measured.of("collections")["held"]
    ]
    return table(("the service holds", "MiB", "threads", "file handles"), rows)


def collections_what(measured: Measured) -> str:
    found = measured.of("collections")
    return (
        f"{found['collections']:,} collections of {found['documents_each']} documents; ready {found['first_ready_s']:.1f} s after the "
        f"spawn without an index, {found['ready_s']:.1f} s with all of them"
    )


def erasing(measured: Measured) -> str:
    rows = [
        (
            f"{each['what']}, {each['report']['turns']:,} turns",
            f"{each['seconds']:.2f}",
            f"{each['file_mib']:.0f}",
            f"{each['marks_before']:,} to {each['marks_after']:,}",
            milliseconds(each["append_ms_max"]),
        )
        for each in measured.of("forgetting")["erases"]
    ]
    titles = (
        "erased",
        "seconds, verified",
        "database MiB",
        "found in any file, before and after",
        "slowest append beside, ms",
    )
    return table(titles, rows)


def machines(measured: Measured) -> str:
    """Where and when each was measured, since not all are measured again at once."""
    rows = []
    for name in _RESULTS:
        machine = measured.of(name)["machine"]
        other = machine.get("other_work")
        rows.append(
            (
                f"[{name}](../benchmarks/results/{name}.json)",
                machine["date"][:10],
                machine["commit"],
                f"{machine['cores']} cores, {machine['cpu']}",
                "unknown" if other is None else f"{100 * other:.0f} %",
            )
        )
    return table(("results", "taken", "commit", "machine", "other work meanwhile"), rows)


NUMBERS: Final[dict[str, Callable[[Measured], str]]] = {
    **ABLATION_NUMBERS,
    "backends": backends,
    "collections-calls": collections_calls,
    "collections-held": collections_held,
    "collections-what": collections_what,
    "crashes": crashes,
    "encodings": encodings,
    "endurance": endurance,
    "erasing": erasing,
    "filters": filters,
    "filters-what": filters_what,
    "finding-documents": finding_documents,
    "finding-turns": finding_turns,
    "kept-in-spans": kept_in_spans,
    "machines": machines,
    "memory-peers": memory_peers,
    "memory-peers-absent": memory_peers_absent,
    "memory-peers-machine": memory_peers_machine,
    "memory-peers-versions": memory_peers_versions,
    "memory-peers-what": memory_peers_what,
    "million": million,
    "million-around": million_around,
    "rates": rates,
    "speeds": speeds,
    "tool-calls": tool_calls,
    "vector-peers": vector_peers,
    "vector-peers-absent": vector_peers_absent,
    "vector-peers-large": partial(vector_peers, name="retrieval-peers-100000"),
    "vector-peers-machine": vector_peers_machine,
    "vector-peers-versions": vector_peers_versions,
    "vector-peers-what": vector_peers_what,
}

"""How good rankings are, by ir-measures: trec_eval's own code, as BEIR and most papers use it. Pure.

nDCG has linear gain (Jarvelin and Kekalainen 2002), and is 1 when the first places hold the best documents in order. MRR is one
through the place of the first relevant document. recall is the share of the relevant ones that are among the first.
"""

from collections.abc import Iterable, Mapping, Sequence

from diptych.evaluation.extras import needed

# Documents or turns, best first.
Ranking = Sequence[str]
# By query, and then by metric.
Scores = dict[str, dict[str, float]]


def metric_names(depths: Sequence[int]) -> list[str]:
    """nDCG and MRR at the first depth, recall at each."""
    return [f"nDCG@{depths[0]}", f"MRR@{depths[0]}", *(f"recall@{depth}" for depth in depths)]


def score_rankings(
    rankings: Mapping[str, Ranking], judgements: Mapping[str, Mapping[str, int]], depths: Sequence[int]
) -> Scores:
    """For each query with judgements; one without a ranking found nothing. A document counts where it stands first."""
    measures = needed("ir_measures")
    first, *_ = depths
    by_name = {f"nDCG@{first}": measures.nDCG @ first, f"MRR@{first}": measures.RR @ first}
    by_name |= {f"recall@{depth}": measures.R @ depth for depth in depths}
    return _calculated(by_name, rankings, judgements)


def evidence_names(depths: Sequence[int]) -> list[str]:
    return [f"{part}@{depth}" for part in ("any", "share", "all") for depth in depths]


def score_evidence(
    rankings: Mapping[str, Ranking], evidence: Mapping[str, Iterable[str]], depths: Sequence[int]
) -> Scores:
    """Of the turns that answer a question: `any` is 1 when one is among the first, `all` when every one is, and `share` how
    many of them are."""
    measures = needed("ir_measures")
    by_name = {f"any@{depth}": measures.Success @ depth for depth in depths}
    by_name |= {f"share@{depth}": measures.R @ depth for depth in depths}
    judgements = {question: dict.fromkeys(turns, 1) for question, turns in evidence.items()}
    scores = _calculated(by_name, rankings, judgements)
    for found in scores.values():
        found |= {f"all@{depth}": float(found[f"share@{depth}"] == 1.0) for depth in depths}
    return scores


def _calculated(
    by_name: Mapping[str, object], rankings: Mapping[str, Ranking], judgements: Mapping[str, Mapping[str, int]]
) -> Scores:
    """trec_eval sorts by score and breaks ties by name, so that places are given as scores without ties."""
    names = {str(measure): name for name, measure in by_name.items()}
    run = {
        query: {document: -float(place) for place, document in enumerate(dict.fromkeys(rankings[query]))}
        for query in judgements
        if rankings.get(query)
    }
    scores: Scores = {query: dict.fromkeys(by_name, 0.0) for query in judgements}
    if run:
        for found in needed("ir_measures").iter_calc(list(by_name.values()), judgements, run):
            scores[found.query_id][names[str(found.measure)]] = float(found.value)
    return scores

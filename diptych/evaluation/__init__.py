"""Quality on a dataset of one's own: what is found, recalled and kept, measured through the clients against a service.

`datasets` and `conversations` read folders, `retrieval_runs`, `memory_runs`, `context_runs` and `summary_runs` ask a service,
`metrics` and `statistics` make numbers of the answers, `results` is the file they are kept in, `gate` compares two of them,
and `reports` shows them to people. `diptych eval` and the programs of `evals/` are thin users of these.
"""

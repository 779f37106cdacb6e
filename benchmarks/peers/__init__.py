"""Other systems, measured beside Diptych. Runs with the Python of .venv-peers (benchmarks/requirements-peers.txt), where Diptych is not
installed, so nothing here imports anything of ours but what is in this folder."""

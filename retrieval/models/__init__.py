"""The models that embed and rerank: their runtimes, their files, and the queue in front of each."""

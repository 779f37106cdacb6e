"""`python -m retrieval`: the service as a process."""

from retrieval.app import build_retrieval
from retrieval.settings import RetrievalSettings
from shared.process import service_command

if __name__ == "__main__":
    service_command(RetrievalSettings, build_retrieval)()

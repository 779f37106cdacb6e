import pytest

from tests.diptych.command import Shell
from tests.harness import RunningMemory, RunningRetrieval


@pytest.fixture
def shell(retrieval: RunningRetrieval, memory: RunningMemory) -> Shell:
    """Beside both services."""
    return Shell({"DIPTYCH_RETRIEVAL_URL": retrieval.url, "DIPTYCH_MEMORY_URL": memory.url})

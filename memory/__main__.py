"""`python -m memory`: the service as a process."""

from memory.app import build_memory
from memory.settings import MemorySettings
from shared.process import service_command

if __name__ == "__main__":
    service_command(MemorySettings, build_memory)()

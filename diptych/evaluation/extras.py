"""The libraries of the extra `eval`, which the services do without: imported where they are needed, with a way out."""

from importlib import import_module
from typing import Any

from shared.errors import SettingsError


def needed(module: str) -> Any:
    """The module. Raises SettingsError with the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise
        raise SettingsError(f"{module} is not installed; evals need it: pip install 'diptych[eval]'") from error

"""`diptych eval` with all its commands."""

from diptych.commands import evaluate_memory, evaluate_report
from diptych.commands.evaluate import evaluate

__all__ = ["evaluate", "evaluate_memory", "evaluate_report"]

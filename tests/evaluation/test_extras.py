"""Libraries of the extra are asked for where they are needed."""

import subprocess
import sys

import pytest

from diptych.evaluation.extras import needed
from shared.errors import SettingsError


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it() -> None:
    assert needed("math").sqrt(4) == 2
    with pytest.raises(SettingsError, match=r"no_such_library\.part is not installed.*pip install 'diptych\[eval\]'"):
        needed("no_such_library.part")


@pytest.mark.blocking
def test_the_command_line_starts_without_them() -> None:
    code = (
        "import diptych.cli, sys; assert not {'scipy', 'ir_measures', 'matplotlib', 'sklearn', 'jinja2', 'rouge_score'} "
        "& set(sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (result.returncode, result.stderr) == (0, "")

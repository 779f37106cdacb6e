"""compose.yaml and deploy/Dockerfile: what keeps the pair safe and running in containers stays in them."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import unused_port
from packaging.specifiers import SpecifierSet

from diptych import __version__
from memory.settings import MemorySettings
from retrieval.settings import RetrievalSettings
from shared.settings import ServiceSettings
from tests.harness import RunningMemory, clean_environment
from tests.test_docs import known_variables

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES = ("retrieval", "memory")
KINDS: dict[str, type[ServiceSettings]] = {"retrieval": RetrievalSettings, "memory": MemorySettings}


def _instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


INSTRUCTIONS = _instructions()
# What the image is: everything from the last FROM on. The stages before it are only built from.
FINAL = INSTRUCTIONS[max(index for index, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def _image_environment() -> dict[str, str]:
    pairs = (pair.partition("=") for name, rest in FINAL if name == "ENV" for pair in shlex.split(rest))
    return {name: value for name, _, value in pairs}


class TestCompose:
    def test_it_has_both_services_and_nothing_else(self) -> None:
        assert set(COMPOSE["services"]) == set(SERVICES)

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_has_no_rights_that_it_does_not_need(self, name: str) -> None:
        service = COMPOSE["services"][name]
        assert service["user"].partition(":")[0] not in {"", "0", "root"}
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        forbidden = {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"}
        assert forbidden.isdisjoint(service)

    @pytest.mark.parametrize("name", SERVICES)
    def test_ports_are_published_on_this_machine_only(self, name: str) -> None:
        port = KINDS[name].model_fields["port"].default
        assert COMPOSE["services"][name]["ports"] == [f"127.0.0.1:{port}:{port}"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_data_lie_in_a_named_volume_that_both_share(self, name: str) -> None:
        service = COMPOSE["services"][name]
        assert service["volumes"] == ["data:/data"]
        assert service["environment"]["DIPTYCH_DATA_DIR"] == "/data"
        assert set(COMPOSE["volumes"]) == {"data"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_the_service_key_is_required_and_not_written_down(self, name: str) -> None:
        assert COMPOSE["services"][name]["environment"]["DIPTYCH_SERVICE_KEY"].startswith("${DIPTYCH_SERVICE_KEY:?")

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_stop_is_given_more_time_than_requests_in_flight_are(self, name: str) -> None:
        """Twice as much: connections are waited for once more after their requests were broken off."""
        grace = re.fullmatch(r"(\d+)s", COMPOSE["services"][name]["stop_grace_period"])
        assert grace
        assert int(grace[1]) > 2 * KINDS[name].model_fields["drain_timeout_s"].default

    @pytest.mark.parametrize("name", SERVICES)
    def test_variables_are_settings_that_exist(self, name: str) -> None:
        environment = COMPOSE["services"][name]["environment"]
        assert {variable for variable in environment if variable.startswith("DIPTYCH_")} <= known_variables()

    def test_memory_does_not_depend_on_retrieval_being_there(self) -> None:
        assert COMPOSE["services"]["memory"]["depends_on"]["retrieval"]["required"] is False
        assert COMPOSE["services"]["memory"]["environment"]["DIPTYCH_RETRIEVAL_URL"] == "http://retrieval:7801"

    @pytest.mark.parametrize("name", SERVICES)
    def test_both_run_the_same_image_of_this_version(self, name: str) -> None:
        service = COMPOSE["services"][name]
        assert service["image"] == f"diptych:{__version__}"
        assert service["command"] == ["python", "-m", name]
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


class TestHealthCheck:
    @pytest.mark.parametrize("name", SERVICES)
    async def test_it_passes_while_the_service_is_ready_and_fails_without_it(
        self, name: str, memory: RunningMemory
    ) -> None:
        assert await _check_health(name, int(memory.url.rpartition(":")[2])) == 0
        assert await _check_health(name, unused_port()) != 0


class TestFirstStart:
    @pytest.mark.parametrize("name", SERVICES)
    @pytest.mark.blocking
    def test_without_keys_a_container_says_what_is_missing_and_ends(self, name: str, tmp_path: Path) -> None:
        image = {variable: value for variable, value in _image_environment().items() if variable != "PATH"}
        command = COMPOSE["services"][name]["command"]
        ended = subprocess.run(
            [sys.executable, *command[1:]],
            env=clean_environment(**image | {"DIPTYCH_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert "diptych keys create" in ended.stderr


class TestDockerfile:
    def test_its_python_is_one_that_the_project_supports(self) -> None:
        images = [rest.split()[0] for name, rest in INSTRUCTIONS if name == "FROM"]
        versions = [re.fullmatch(r"python:(\d+\.\d+)-slim", image) for image in images]
        assert all(versions)
        supported = SpecifierSet(PROJECT["project"]["requires-python"])
        assert all(version and version[1] in supported for version in versions)

    def test_the_image_runs_as_an_unprivileged_user_with_the_id_that_compose_names(self) -> None:
        users = [rest for name, rest in FINAL if name == "USER"]
        assert users == [COMPOSE["services"]["retrieval"]["user"]]
        assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[0])
        after = [name for name, _ in FINAL[[name for name, _ in FINAL].index("USER") :]]
        assert "RUN" not in after

    def test_it_installs_the_pinned_versions(self) -> None:
        installs = [rest for name, rest in INSTRUCTIONS if name == "RUN" and "pip install" in rest]
        assert any("--constraint constraints.txt" in install for install in installs)
        assert all("$PIP_FLAGS" in install for install in installs)

    def test_every_package_is_copied_and_none_is_kept_back_by_dockerignore(self) -> None:
        copied = {
            part for name, rest in INSTRUCTIONS if name == "COPY" and "--from" not in rest for part in rest.split()[:-1]
        }
        packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
        assert copied == packages | {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"]}
        assert all((ROOT / source).exists() for source in copied)
        assert all(_is_sent(source) for source in copied)

    @pytest.mark.parametrize(
        "path", [".env", ".git", ".venv", "diptych-data", "keys.db", "tests", "shared/__pycache__"]
    )
    def test_secrets_data_and_leftovers_are_kept_back(self, path: str) -> None:
        assert not _is_sent(path)

    def test_a_container_runs_what_it_is_told_to(self) -> None:
        """`docker compose run --rm retrieval diptych keys create` must not become an argument of something else."""
        assert "ENTRYPOINT" not in {name for name, _ in FINAL}
        assert [json.loads(rest) for name, rest in FINAL if name == "CMD"] == [["diptych", "--help"]]

    def test_variables_are_settings_that_exist_and_agree_with_compose(self) -> None:
        own = {name: value for name, value in _image_environment().items() if name.startswith("DIPTYCH_")}
        assert set(own) <= known_variables()
        assert own.items() <= COMPOSE["services"]["retrieval"]["environment"].items()


async def _check_health(name: str, port: int) -> int:
    """The exit code of the service's own check, asked of another port."""
    kind, _, *rest = COMPOSE["services"][name]["healthcheck"]["test"]
    assert kind == "CMD"
    code = rest[-1].replace(str(KINDS[name].model_fields["port"].default), str(port))
    assert str(port) in code
    process = await asyncio.create_subprocess_exec(sys.executable, *rest[:-1], code, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


def _is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last line that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line.startswith("#") or not line.strip():
            continue
        parts = path.split("/")
        if any(fnmatch(part, pattern) for part in (parts if line.startswith("**/") else parts[:1])):
            sent = line.startswith("!")
    return sent

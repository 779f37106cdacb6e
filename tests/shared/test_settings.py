"""Settings come from flags and the environment, are checked whole, and cannot be changed or leaked afterwards."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from memory.settings import MemorySettings
from retrieval.settings import RetrievalSettings
from shared.errors import SettingsError
from shared.settings import ServiceSettings, is_loopback, load_settings

SECRET = "correct horse battery staple"
BOTH_SERVICES = pytest.mark.parametrize("kind", [RetrievalSettings, MemorySettings])


def problems(kind: type[ServiceSettings], **flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(kind, flags)
    first, *lines = str(caught.value).splitlines()
    assert first == "these settings cannot be used:"
    return [line.strip() for line in lines]


def test_the_defaults_are_safe() -> None:
    retrieval, memory = load_settings(RetrievalSettings, {}), load_settings(MemorySettings, {})

    assert (retrieval.host, retrieval.port, memory.host, memory.port) == ("127.0.0.1", 7801, "127.0.0.1", 7802)
    assert retrieval.service_key is None


def test_a_variable_for_both_services_is_read_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_READ_CONNECTIONS", "7")

    assert load_settings(RetrievalSettings, {}).read_connections == 7
    assert load_settings(MemorySettings, {}).read_connections == 7


def test_a_variable_for_one_service_is_read_by_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_MEMORY_READ_CONNECTIONS", "7")

    assert load_settings(RetrievalSettings, {}).read_connections == 2
    assert load_settings(MemorySettings, {}).read_connections == 7


def test_the_service_s_own_variable_wins_over_the_common_one_and_a_flag_over_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIPTYCH_READ_CONNECTIONS", "5")
    monkeypatch.setenv("DIPTYCH_RETRIEVAL_READ_CONNECTIONS", "6")

    assert load_settings(MemorySettings, {}).read_connections == 5
    assert load_settings(RetrievalSettings, {}).read_connections == 6
    assert load_settings(RetrievalSettings, {"read_connections": "7"}).read_connections == 7
    assert load_settings(RetrievalSettings, {"read_connections": None}).read_connections == 6


def test_where_retrieval_is_counts_as_no_setting_of_retrieval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_RETRIEVAL_URL", "http://elsewhere:1")
    monkeypatch.setenv("DIPTYCH_MEMORY_URL", "http://elsewhere:2")

    assert load_settings(RetrievalSettings, {}).port == 7801
    assert load_settings(MemorySettings, {}).retrieval_url == "http://elsewhere:1"


def test_all_problems_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_RETRIEVAL_PRT", "1")
    monkeypatch.setenv("DIPTYCH_LOG_LEVEL", "loud")

    found = problems(RetrievalSettings, port="70000", read_connections="0", model="")

    assert found[0] == "DIPTYCH_RETRIEVAL_PRT: no service has this setting"
    assert [line.split(" / ")[0] for line in found[1:]] == ["--port", "--log-level", "--read-connections", "--model"]
    assert found[1] == "--port / DIPTYCH_PORT / DIPTYCH_RETRIEVAL_PORT: Input should be less than or equal to 65535"


@BOTH_SERVICES
@pytest.mark.parametrize("rest", ["PRT", "X", "PORT_", "SERVICE"])
def test_an_unknown_variable_of_the_service_is_refused(
    kind: type[ServiceSettings], rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"DIPTYCH_{kind.service.upper()}_{rest}"
    monkeypatch.setenv(name, "1")

    assert problems(kind) == [f"{name}: no service has this setting"]


def test_a_setting_of_the_other_service_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_MODEL", "other")
    monkeypatch.setenv("DIPTYCH_RETRIEVAL_MODEL", "other")

    assert load_settings(MemorySettings, {}).port == 7802


@BOTH_SERVICES
@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("port", 65535, 65536),
        ("port", 0, -1),
        ("body_bytes_max", 1024, 1023),
        ("metadata_bytes_max", 2, 1),
        ("requests_in_flight_max", 1, 0),
        ("request_timeout_s", 0.001, 0),
        ("drain_timeout_s", 0, -0.1),
        ("read_connections", 64, 65),
        ("service_key", "x" * 24, "x" * 23),
    ],
)
def test_every_limit_is_kept_on_both_sides(
    kind: type[ServiceSettings], name: str, inside: object, outside: object
) -> None:
    load_settings(kind, {name: inside})

    assert problems(kind, **{name: outside})[0].startswith(f"--{name.replace('_', '-')} / ")


@BOTH_SERVICES
def test_a_secret_is_masked_wherever_settings_are_shown(kind: type[ServiceSettings]) -> None:
    settings = load_settings(kind, {"service_key": SECRET})

    assert SECRET not in repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert settings.service_key is not None
    assert settings.service_key.get_secret_value() == SECRET


def test_a_secret_that_is_refused_is_not_shown_either() -> None:
    (line,) = problems(MemorySettings, service_key="too short a secret")

    assert line.startswith("--service-key")
    assert "too short a secret" not in line


@BOTH_SERVICES
def test_settings_are_frozen(kind: type[ServiceSettings]) -> None:
    settings = load_settings(kind, {})

    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # mypy's plugin knows it too


def test_an_unknown_flag_is_refused() -> None:
    assert problems(MemorySettings, prt=1) == [
        "--prt / DIPTYCH_PRT / DIPTYCH_MEMORY_PRT: Extra inputs are not permitted"
    ]


def test_each_service_has_its_own_folder_and_both_share_the_keys(tmp_path: Path) -> None:
    retrieval = load_settings(RetrievalSettings, {"data_dir": tmp_path})
    memory = load_settings(MemorySettings, {"data_dir": str(tmp_path)})

    assert (retrieval.directory, memory.directory) == (tmp_path / "retrieval", tmp_path / "memory")
    assert retrieval.keys_file == memory.keys_file == tmp_path / "keys.db"
    assert load_settings(MemorySettings, {"keys_path": tmp_path / "k"}).keys_file == tmp_path / "k"


def test_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    settings = load_settings(MemorySettings, {"keys_path": "~/keys.db"})

    assert settings.directory == Path("/home/ada/.diptych/memory")
    assert settings.keys_file == Path("/home/ada/keys.db")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - asked about, not bound
        ("::", False),
        ("192.168.1.5", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, is_local: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_loopback(host) is is_local

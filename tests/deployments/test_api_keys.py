"""API keys: which open the gateway, which may change indexes, where they come from, where none are needed."""

from pathlib import Path

import pytest

from deployments.api_keys import (
    ApiKeys,
    IndexKeys,
    check_listen_address,
    digest_keys,
    is_loopback,
    load_api_keys,
    load_index_keys,
)
from deployments.environment import read_environment
from experts.errors import ConfigurationError, NotAllowed, NotAuthenticated

KEY = "a-good-key-of-32-characters-0001"
OTHER = "a-good-key-of-32-characters-0002"


def test_any_of_the_keys_opens() -> None:
    keys = digest_keys([KEY, OTHER])
    keys.check(f"Bearer {KEY}")
    keys.check(f"bearer  {OTHER}")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer é\udce9"]
)
def test_anything_else_does_not_and_the_key_is_not_repeated(header: str | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        digest_keys([KEY]).check(header)
    assert KEY not in str(caught.value)


def test_without_keys_every_request_passes() -> None:
    ApiKeys().check(None)


def test_keys_show_in_no_repr() -> None:
    environment = read_environment({"GUILDHALL_API_KEYS": KEY})
    assert KEY not in repr(environment)
    assert KEY not in repr(load_api_keys(environment))


def test_keys_come_from_variable_and_file_and_empty_ones_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# one per line\n\n{OTHER}\n")
    file.chmod(0o600)
    keys = load_api_keys(read_environment({"GUILDHALL_API_KEYS": f" {KEY},,", "GUILDHALL_API_KEYS_FILE": str(file)}))
    assert len(keys.digests) == 2
    assert not load_api_keys(read_environment({"GUILDHALL_API_KEYS": " , "}))
    assert not load_api_keys(read_environment({}))


def test_a_file_that_everybody_may_read_is_refused_with_the_way_to_mend_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_api_keys(read_environment({"GUILDHALL_API_KEYS_FILE": str(file)}))


def test_an_index_key_opens_what_an_api_key_opens_and_not_the_other_way_round(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OTHER)
    file.chmod(0o600)
    environment = read_environment({"GUILDHALL_API_KEYS": KEY, "GUILDHALL_INDEX_KEYS_FILE": str(file)})
    load_api_keys(environment).check(f"Bearer {OTHER}")
    writing = IndexKeys(load_index_keys(environment), gateway_has_keys=True)
    writing.check(f"Bearer {OTHER}", None)
    for header in (f"Bearer {KEY}", None):
        with pytest.raises(NotAllowed, match="GUILDHALL_INDEX_KEYS") as caught:
            writing.check(header, None)
        assert KEY not in str(caught.value)


def test_index_keys_alone_guard_writing_and_open_no_other_address() -> None:
    environment = read_environment({"GUILDHALL_INDEX_KEYS": KEY})
    assert not load_api_keys(environment)
    writing = IndexKeys(load_index_keys(environment))
    writing.check(f"Bearer {KEY}", None)
    with pytest.raises(NotAllowed):
        writing.check(None, None)
    with pytest.raises(ConfigurationError, match="GUILDHALL_API_KEYS"):
        check_listen_address("0.0.0.0", load_api_keys(environment))


def test_without_an_index_key_only_a_gateway_without_api_keys_lets_local_programs_write() -> None:
    IndexKeys().check(None, None)
    with pytest.raises(NotAllowed, match="web page"):
        IndexKeys().check(None, "http://localhost:3000")
    with pytest.raises(NotAllowed, match="set GUILDHALL_INDEX_KEYS"):
        IndexKeys(gateway_has_keys=True).check(f"Bearer {KEY}", None)


def test_index_keys_have_the_rules_of_api_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 5 characters"):
        load_index_keys(read_environment({"GUILDHALL_INDEX_KEYS": "short"}))
    file = tmp_path / "keys"
    file.write_text("")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"GUILDHALL_INDEX_KEYS_FILE=.* holds no key"):
        load_index_keys(read_environment({"GUILDHALL_INDEX_KEYS_FILE": str(file)}))


@pytest.mark.parametrize("content", ["", "# nothing\n"])
def test_a_file_without_a_key_never_opens_the_gateway(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no key"):
        load_api_keys(read_environment({"GUILDHALL_API_KEYS_FILE": str(file)}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_api_keys(read_environment({"GUILDHALL_API_KEYS_FILE": str(tmp_path / "absent")}))


def test_a_short_key_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="has 5 characters, at least 16") as caught:
        digest_keys(["short"])
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_listen_address(host, ApiKeys())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org"])
def test_any_other_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigurationError, match="GUILDHALL_API_KEYS"):
        check_listen_address(host, ApiKeys())
    check_listen_address(host, digest_keys([KEY]))


def test_the_data_folder_follows_the_variables() -> None:
    assert read_environment({"GUILDHALL_DATA_DIR": "/data"}).data_dir == Path("/data")
    assert read_environment({"XDG_CACHE_HOME": "/cache"}).data_dir == Path("/cache/guildhall")
    assert read_environment({}).data_dir == Path("~/.cache/guildhall").expanduser()

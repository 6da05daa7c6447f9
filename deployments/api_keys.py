"""API keys: which ones open the gateway, and where it may listen without any.

Only SHA-256 digests are kept, so that no log, traceback or Serve configuration can show a key.
"""

import hmac
import ipaddress
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from deployments.environment import Environment
from experts.errors import ConfigurationError, NotAuthenticated

MIN_KEY_LENGTH = 16
"""A shorter key can be guessed, and its digest can be reversed."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The digests of the keys that open the gateway; none means that every request may pass."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def check(self, authorization: str | None) -> None:
        """Raise NotAuthenticated unless an Authorization header carries one of the keys."""
        if not self.digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise NotAuthenticated("the request carries no API key; send the header 'Authorization: Bearer <key>'")
        digest = sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Every digest is compared, so that the time taken does not tell which key came near.
        matches = [hmac.compare_digest(digest, known) for known in self.digests]
        if not any(matches):
            raise NotAuthenticated("the API key is not one that this server knows; ask its operator for a key")


def digest_keys(keys: Iterable[str]) -> ApiKeys:
    """The keys as digests: empty ones ignored, each once; raises ConfigurationError for one that is too short."""
    stripped = [key.strip() for key in keys]
    wanted = list(dict.fromkeys(key for key in stripped if key))
    for position, key in enumerate(wanted, start=1):
        if len(key) < MIN_KEY_LENGTH:
            raise ConfigurationError(
                f"API key {position} has {len(key)} characters, at least {MIN_KEY_LENGTH} are needed; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
    return ApiKeys(tuple(sha256(key.encode("utf-8", "surrogateescape")).digest() for key in wanted))


def load_api_keys(environment: Environment) -> ApiKeys:
    """The keys of GUILDHALL_API_KEYS and GUILDHALL_API_KEYS_FILE together; raises ConfigurationError."""
    keys: list[str] = environment.api_keys.split(",") if environment.api_keys is not None else []
    if environment.api_keys_file is not None:
        from_file = [line.strip() for line in _read_private(environment.api_keys_file).splitlines()]
        keys += [line for line in from_file if line and not line.startswith("#")]
        if not any(key.strip() for key in keys):
            # An empty file is a mistake in a secret's mount; taking it for "no keys" would open the gateway.
            raise ConfigurationError(
                f"GUILDHALL_API_KEYS_FILE={environment.api_keys_file} holds no key; write one per line or unset it"
            )
    return digest_keys(keys)


def _read_private(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & stat.S_IROTH:
            raise ConfigurationError(
                f"{path} holds API keys and everybody may read it (mode {stat.S_IMODE(mode):04o}); "
                f"run: chmod 600 {path}"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"GUILDHALL_API_KEYS_FILE={path} cannot be read: {reason}") from error


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_listen_address(host: str, keys: ApiKeys) -> None:
    """Raise ConfigurationError when a gateway without API keys would listen to other machines."""
    if keys or is_loopback(host):
        return
    raise ConfigurationError(
        f"gateway.host is '{host}', which other machines can reach, and no API key is set; "
        "set GUILDHALL_API_KEYS or GUILDHALL_API_KEYS_FILE, or listen on 127.0.0.1"
    )

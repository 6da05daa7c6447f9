"""API keys: which ones open the gateway, which may change its indexes, and where it may listen without any.

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
from experts.errors import ConfigurationError, NotAllowed, NotAuthenticated

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


@dataclass(frozen=True, slots=True)
class IndexKeys:
    """Who may change indexes: the keys that may, and whether the gateway asks for keys at all."""

    keys: ApiKeys = ApiKeys()
    gateway_has_keys: bool = False

    def check(self, authorization: str | None, origin: str | None) -> None:
        """Raise NotAllowed unless an Authorization header carries an index key.

        Without any key the gateway listens on loopback only and every local program may write, but no page that a
        browser on this machine has open (`origin`: the Origin header, which browsers send and programs do not).
        """
        if self.keys:
            try:
                self.keys.check(authorization)
            except NotAuthenticated:
                raise NotAllowed(
                    "this API key may search indexes and not change them; use one of GUILDHALL_INDEX_KEYS"
                ) from None
        elif self.gateway_has_keys:
            raise NotAllowed(
                "no key may change indexes over HTTP here; set GUILDHALL_INDEX_KEYS or GUILDHALL_INDEX_KEYS_FILE where "
                "the gateway runs, or run `guildhall index add` there"
            )
        elif origin is not None:
            raise NotAllowed(
                "a web page may not change indexes of a gateway without API keys; set GUILDHALL_API_KEYS and "
                "GUILDHALL_INDEX_KEYS, or send the request without the header Origin"
            )


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
    """The keys that open the gateway; raises ConfigurationError.

    GUILDHALL_API_KEYS and GUILDHALL_API_KEYS_FILE together, and where there are any the index keys too: whoever may
    write may read.
    """
    keys = _load_keys("GUILDHALL_API_KEYS", environment.api_keys, environment.api_keys_file)
    return ApiKeys(keys.digests + load_index_keys(environment).digests) if keys else keys


def load_index_keys(environment: Environment) -> ApiKeys:
    """The keys of GUILDHALL_INDEX_KEYS and GUILDHALL_INDEX_KEYS_FILE together; raises ConfigurationError."""
    return _load_keys("GUILDHALL_INDEX_KEYS", environment.index_keys, environment.index_keys_file)


def _load_keys(variable: str, value: str | None, file: Path | None) -> ApiKeys:
    keys: list[str] = value.split(",") if value is not None else []
    if file is not None:
        from_file = [line.strip() for line in _read_private(variable, file).splitlines()]
        keys += [line for line in from_file if line and not line.startswith("#")]
        if not any(key.strip() for key in keys):
            # An empty file is a mistake in a secret's mount; taking it for "no keys" would open the gateway.
            raise ConfigurationError(f"{variable}_FILE={file} holds no key; write one per line or unset it")
    return digest_keys(keys)


def _read_private(variable: str, path: Path) -> str:
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
        raise ConfigurationError(f"{variable}_FILE={path} cannot be read: {reason}") from error


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

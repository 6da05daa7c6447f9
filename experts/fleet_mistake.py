"""One mistake in a fleet file: where it is, what was found, what is known and what to do next."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

KeyPath = tuple[str, ...]

_LONGEST_VALUE = 60
_LONGEST_LIST = 24

# Published shapes of tokens: OpenAI and Anthropic, Hugging Face, GitHub, AWS, Slack, JSON web tokens, PEM files and
# passwords inside URLs.
_SECRET_VALUE = re.compile(
    r"\bsk-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@"
)
_SECRET_KEY = re.compile(r"api[_-]?keys?$|(^|[_-])(token|secret|password|passwd|credentials?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one key; `line` counts from 1 and is None where no line of the file is at fault."""

    key: KeyPath
    found: str
    known: str
    next_step: str
    line: int | None = None

    def __str__(self) -> str:
        where = ".".join(shorten(part) for part in self.key) or "file"
        line = f" (line {self.line})" if self.line is not None else ""
        return f"{where}{line}: found {self.found}; {self.known}; {self.next_step}"


def shorten(text: str) -> str:
    """A text on one line, cut in the middle: its beginning and its end are what people recognise."""
    line = " ".join(text.split())
    if len(line) <= _LONGEST_VALUE:
        return line
    half = (_LONGEST_VALUE - 1) // 2
    return f"{line[:half]}…{line[-half:]}"


def show_value(value: Any) -> str:
    """A value of the file as a reader knows it, short and without secrets."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a secret (not shown)" if is_secret_value(value) else f"'{shorten(value)}'"
    if isinstance(value, dict):
        return f"a mapping with the keys {show_names(value)}" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return shorten(str(value))


def show_names(names: Iterable[str]) -> str:
    """Names in the order given, cut after the first few."""
    listed = [shorten(name) for name in names]
    rest = f" and {len(listed) - _LONGEST_LIST} more" if len(listed) > _LONGEST_LIST else ""
    return ", ".join(listed[:_LONGEST_LIST]) + rest if listed else "none"


def choose_closest(name: str, known: Sequence[str], least_ratio: float = 0.6) -> str | None:
    """The known name that a misspelt one most likely means (difflib's ratio, case and separators ignored)."""
    plain = {_plain(candidate): candidate for candidate in reversed(known)}
    matches = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=least_ratio)
    return plain[matches[0]] if matches else None


def plan_rename(name: str, known: Sequence[str], otherwise: str) -> str:
    """The next step for a name that is not known: the closest known one, or another way out."""
    closest = choose_closest(name, known)
    return f"did you mean '{closest}'?" if closest else otherwise


def is_secret_value(text: str) -> bool:
    """Whether a text has the shape of an API key, a token, a private key or a password in a URL."""
    return _SECRET_VALUE.search(text) is not None


def is_secret_key(name: str) -> bool:
    """Whether a key's name says that its value is a secret."""
    return _SECRET_KEY.search(name) is not None


def observe_secrets(data: Any, key: KeyPath = ()) -> list[Mistake]:
    """Every secret in the data of a fleet file, by its key's name or its value's shape."""
    if isinstance(data, dict):
        mistakes: list[Mistake] = []
        for name, value in data.items():
            inner = (*key, name)
            if is_secret_key(name) and isinstance(value, str | int):
                mistakes.append(_secret(inner))
            else:
                mistakes += observe_secrets(value, inner)
        return mistakes
    if isinstance(data, list):
        return [mistake for place, item in enumerate(data) for mistake in observe_secrets(item, (*key, str(place)))]
    return [_secret(key)] if isinstance(data, str) and is_secret_value(data) else []


def _secret(key: KeyPath) -> Mistake:
    return Mistake(
        key,
        "what looks like a secret (not shown)",
        "fleet files are shared and committed, so they hold none",
        "remove it, replace it if others saw the file, and give it in an environment variable",
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

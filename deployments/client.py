"""The command line's way to a gateway: questions, plans and the fleet's state over HTTP."""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from deployments.environment import Environment
from experts.errors import BadRequest, GuildhallError, NotAuthenticated, NotServing, Overloaded, Unavailable

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_TIMEOUT_S = 5.0
# The gateway ends an answer at its own limit (`gateway.answer_timeout_s`), so this only guards against a dead one.
READ_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Planned:
    """How the question was split; always before the first text."""

    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the answer as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The end: `guildhall` has citations, sub_answers and timings_s; `usage` is OpenAI's."""

    finish_reason: str
    guildhall: Mapping[str, Any]
    usage: Mapping[str, Any]


AnswerEvent = Planned | Text | Answered


class GatewayClient:
    """Speaks to one gateway; every method raises NotServing when nothing answers, else the error that it sent."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        # A proxy of the environment has no business between this machine and a gateway on it.
        host = httpx.URL(self.url).host if "://" in self.url else ""
        local = host in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.Client(headers=headers, timeout=timeout, trust_env=not local)

    def close(self) -> None:
        self._http.close()

    def ask(self, question: str, model: str) -> Generator[AnswerEvent]:
        """The answer as it comes; ends with Answered, or raises when the gateway breaks it off."""
        with (
            self._errors(),
            self._http.stream(
                "POST",
                f"{self.url}/v1/chat/completions",
                json={**_chat(question, model), "stream": True, "stream_options": {"include_usage": True}},
            ) as response,
        ):
            _raise_for_error(response)
            yield from _read_answer(response.iter_lines())

    def ask_whole(self, question: str, model: str) -> dict[str, Any]:
        """The whole response body, not streamed."""
        return self._post("/v1/chat/completions", _chat(question, model))

    def explain(self, question: str, model: str) -> dict[str, Any]:
        """The plan of a question; nothing is generated."""
        return self._post("/v1/plan", {"question": question, "model": model})

    def observe_fleet(self) -> dict[str, Any]:
        """What the fleet is doing."""
        with self._errors():
            return _read_body(self._http.get(f"{self.url}/v1/fleet"))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self._errors():
            return _read_body(self._http.post(f"{self.url}{path}", json=body))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotServing(
                f"nothing answers at {self.url}; start a fleet with `guildhall up cluster/fleets/pocket.yaml`, or name "
                "another address with --url or GUILDHALL_URL"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise BadRequest(f"'{self.url}' is not an address: {error}; write it as {DEFAULT_URL}") from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"{self.url} did not answer within {READ_TIMEOUT_S:.0f} s; see `guildhall status`"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self.url} broke off its answer ({error}); see `guildhall status`, then ask again"
            ) from error


def connect_gateway(environment: Environment, url: str | None) -> GatewayClient:
    """The gateway at `url`, else GUILDHALL_URL, else this machine's; with the first of the known keys."""
    return GatewayClient(url or environment.url or DEFAULT_URL, _choose_key(environment))


def _choose_key(environment: Environment) -> str | None:
    """A key of GUILDHALL_API_KEYS, else of the keys' file if this user may read it."""
    keys = (environment.api_keys or "").split(",")
    if not environment.api_keys and environment.api_keys_file is not None:
        try:
            keys = environment.api_keys_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
    return next((key.strip() for key in keys if key.strip() and not key.strip().startswith("#")), None)


def _chat(question: str, model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}]}


def _read_answer(lines: Iterator[str]) -> Iterator[AnswerEvent]:
    finish_reason = ""
    guildhall: dict[str, Any] = {}
    usage: Mapping[str, Any] = {}
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            yield Answered(finish_reason, guildhall, usage)
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise Unavailable(str(chunk["error"].get("message", chunk["error"])))
        usage = chunk.get("usage") or usage
        extra = chunk.get("guildhall") or {}
        guildhall |= extra
        if "plan" in extra:
            yield Planned(extra["plan"])
        for choice in chunk.get("choices", ()):
            finish_reason = choice.get("finish_reason") or finish_reason
            text = choice.get("delta", {}).get("content")
            if text:
                yield Text(text)
    raise Unavailable("the answer ended before it was complete; ask again")


def _read_body(response: httpx.Response) -> dict[str, Any]:
    _raise_for_error(response)
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _not_guildhall(response)
    return body


def _raise_for_error(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    response.read()
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_guildhall(response) from error
    raise _choose_error(response.status_code)(message)


def _choose_error(status: int) -> type[GuildhallError]:
    if status == 401:
        return NotAuthenticated
    if status == 429:
        return Overloaded
    return BadRequest if status < 500 else Unavailable


def _not_guildhall(response: httpx.Response) -> GuildhallError:
    return Unavailable(
        f"{response.request.url} answered with HTTP {response.status_code} and not as a Guildhall gateway does; "
        "correct --url or GUILDHALL_URL"
    )

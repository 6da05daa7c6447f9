"""Every error has its line in the one table, and survives the way between processes."""

import pickle

import pytest

from deployments.http_errors import HTTP_ERRORS, FailedPart, describe_error, reply_to_error, reply_to_failures
from experts import errors
from experts.errors import BadRequest, FleetFileError, GuildhallError, NotAuthenticated, Overloaded
from router.question import Failure

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GuildhallError)]


def build(cls: type[GuildhallError]) -> GuildhallError:
    if issubclass(cls, BadRequest):
        return cls("what, observed, limit, next step", "messages")
    if cls is FleetFileError:
        return FleetFileError("fleet.yaml", ("domains: missing",))
    return cls("what, observed, limit, next step")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_has_its_own_line(cls: type[GuildhallError]) -> None:
    assert cls in HTTP_ERRORS
    assert describe_error(build(cls)) is HTTP_ERRORS[cls]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_survives_pickling(cls: type[GuildhallError]) -> None:
    error = build(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert getattr(again, "param", None) == getattr(error, "param", None)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_reply_has_openais_shape(cls: type[GuildhallError]) -> None:
    reply = reply_to_error(build(cls))
    assert set(reply.body["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in reply.headers) is HTTP_ERRORS[cls].retryable
    assert reply.headers["x-should-retry"] == ("true" if HTTP_ERRORS[cls].retryable else "false")


def test_a_subclass_outside_the_table_takes_its_parents_line() -> None:
    class Nearer(Overloaded):
        pass

    assert describe_error(Nearer("full")).status == 429


def test_a_missing_key_names_the_scheme() -> None:
    assert reply_to_error(NotAuthenticated("no key")).headers["www-authenticate"] == "Bearer"


def test_when_all_parts_fail_the_callers_mistake_comes_first() -> None:
    down = FailedPart(Failure("expert_unavailable", "down", True), 503)
    full = FailedPart(Failure("overloaded", "full", True), 429)
    long = FailedPart(Failure("context_length_exceeded", "too long", False), 400, "messages")
    assert reply_to_failures([down, full, long]).status == 400
    assert reply_to_failures([down, full]).status == 429
    assert reply_to_failures([down]).status == 503
    assert reply_to_failures([down]).headers["retry-after"] == "5"
    assert "retry-after" not in reply_to_failures([long]).headers


def test_an_experts_internal_error_is_never_a_500() -> None:
    assert reply_to_failures([FailedPart(Failure("engine_error", "broken", True), 500)]).status == 503

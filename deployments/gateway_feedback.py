"""The gateway's route for feedback on an answer, by the answer's request id."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.requests import Request

from deployments.feedback import MAX_COMMENT_CHARS, AnsweredRequest, FeedbackRow, name_owner
from deployments.gateway_service import GatewayService
from deployments.request_edge import build_json, read_json, read_record
from deployments.request_fields import Fields, describe_type, quote
from experts.errors import BadRequest, NotFound, Unavailable
from experts.fleet import Fleet

FEEDBACK_ROUTES = "POST /v1/feedback"


def add_feedback_routes(app: FastAPI, service: GatewayService) -> None:
    """Any key may speak of its own answers and of nobody else's."""

    @app.post("/v1/feedback")
    async def take_feedback(request: Request) -> Response:
        fleet = service.serving().fleet
        fields = Fields(await read_json(request, fleet.gateway.max_body_kib))
        fields.check_known({"request_id", "score", "domain", "sub_queries", "comment"})
        request_id = fields.required_text("request_id")
        score = fields.number("score", 0, 1)
        comment = fields.text("comment")
        if comment is not None and len(comment) > MAX_COMMENT_CHARS:
            fields.fail("comment", f"has {len(comment)} characters, limit {MAX_COMMENT_CHARS}; send less")
        owner = name_owner(service.keys, request.headers.get("authorization"))
        answered = await asyncio.to_thread(service.feedback.find, request_id, owner)
        if answered is None:
            raise NotFound(
                f"no answer with the request id {quote(request_id)} is known here for this key; send the "
                "guildhall.request_id of a chat completion while it is among the last few thousand of its node",
                "request_id",
            )
        corrections = _parse_corrections(fields, answered, fleet)
        if score is None and not corrections:
            fields.fail("score", "is missing; send a score from 0 to 1, or the domain that should have answered")
        try:
            row = await asyncio.to_thread(service.feedback.record, answered, score, corrections, comment)
        except OSError as error:
            raise Unavailable(
                f"the feedback could not be stored ({error.strerror}); make room in GUILDHALL_DATA_DIR and retry"
            ) from error
        service.metrics.feedback.labels(choose_bucket(score)).inc()
        read_record(request).fields |= {"score": score, "corrections": len(corrections)}
        return build_json(_describe(row))


def choose_bucket(score: float | None) -> str:
    """The metric's label for a score."""
    if score is None:
        return "none"
    return "bad" if score < 1 / 3 else "good" if score > 2 / 3 else "mixed"


def _parse_corrections(fields: Fields, answered: AnsweredRequest, fleet: Fleet) -> Mapping[int, str]:
    """The right domain of each sub-query that the caller corrects; raises BadRequest naming the field."""
    corrections: dict[int, str] = {}
    known = [part.id for part in answered.sub_queries]
    domain = fields.choice("domain", fleet.domains)
    if domain is not None:
        if len(known) != 1:
            fields.fail(
                "domain", f"is for one part and the answer has {len(known)}; send sub_queries with id and domain"
            )
        corrections[known[0]] = domain
    for position, item in enumerate(fields.array("sub_queries") or ()):
        path = f"sub_queries[{position}]"
        if not isinstance(item, dict):
            raise BadRequest(f"{path} is {describe_type(item)}, expected an object with id and domain", path)
        part = Fields(item, path)
        part.check_known({"id", "domain"})
        id_ = part.integer("id", 0, 1_000_000)
        if id_ not in known:
            ids = ", ".join(str(number) for number in known)
            part.fail("id", f"is {quote(id_)}; the plan of this answer has the sub-queries {ids}")
        right = part.choice("domain", fleet.domains)
        if right is None:
            part.fail("domain", "is missing; it is the domain that should have answered")
        if id_ in corrections:
            part.fail("id", f"is {id_} again; correct each sub-query once")
        corrections[id_] = right
    return corrections


def _describe(row: FeedbackRow) -> dict[str, Any]:
    return {
        "object": "feedback",
        "request_id": row.request_id,
        "score": row.score,
        "comment": row.comment,
        "sub_queries": [
            {"id": part.id, "domain": part.domain, "correction": part.correction} for part in row.sub_queries
        ],
    }

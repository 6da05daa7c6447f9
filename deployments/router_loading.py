"""Loading the router of a fleet: its artifact where the fleet file names one, else trained on the file's examples."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from deployments.fleet_encoder import FleetEncoder, embed_questions
from experts.fleet import Fleet
from router.artifact import adapt_router, load_router_artifact, train_router
from router.boundary_head import BoundaryHead, load_boundary_head
from router.encoding import Vectors
from router.planner import RouterSnapshot, build_snapshot
from router.tiers import DEFAULT_TARGET_ERROR
from router.training import Embedding


def list_artifacts(fleet: Fleet) -> tuple[str, ...]:
    """The numbered folders of the fleet's router artifact, in order; none where it names none."""
    if fleet.router.artifact is None:
        return ()
    folder = Path(fleet.router.artifact)
    return tuple(sorted(path.name for path in folder.glob("[0-9]*"))) if folder.is_dir() else ()


def load_router(fleet: Fleet, encoder: FleetEncoder) -> RouterSnapshot:
    """What the router knows of a fleet; takes a second or two where it is trained.

    Raises ConfigurationError and EncoderMismatch as `load_router_artifact` does.
    """
    embed, static = build_embeddings(encoder)
    if fleet.router.artifact is not None:
        artifact = load_router_artifact(Path(fleet.router.artifact), encoder.fingerprint, fleet)
        artifact = adapt_router(artifact, fleet, embed, static)
    else:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        artifact = train_router(fleet, (), embed, static, encoder.fingerprint, created, DEFAULT_TARGET_ERROR)
    return build_snapshot(fleet, artifact, encoder.static, _load_boundaries())


def build_embeddings(encoder: FleetEncoder) -> tuple[Embedding, Embedding | None]:
    """The encoder as training asks for it: texts to vectors, and to static ones where it has a token table."""

    def embed(texts: Sequence[str]) -> Vectors:
        return embed_questions(encoder, texts)

    def embed_static(texts: Sequence[str]) -> Vectors:
        assert encoder.static is not None
        return encoder.static.embed([encoder.tokenize(text) for text in texts])

    return embed, embed_static if encoder.static is not None else None


@cache
def _load_boundaries() -> BoundaryHead:
    return load_boundary_head()

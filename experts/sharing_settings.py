"""What engines on one node share."""

from pydantic import Field

from experts.settings import Settings


class Sharing(Settings):
    """How the CPU engines of one node share its memory."""

    kv_cache_gib: float = Field(
        gt=0,
        le=65_536,
        description="Memory for the KV caches of all CPU engines of one node, in GiB; `kv_cache_gib` of an engine is "
        "then the most that it may hold while others leave it theirs.",
    )

"""The fleet file: one YAML file, one typed tree, read by all that starts, renders, plans or simulates a fleet."""

from pathlib import Path
from typing import Annotated, Literal, NewType

from pydantic import Field

from experts.scaling_settings import FleetScaling, Scaling
from experts.search_mode import SearchMode
from experts.settings import Settings
from experts.sharing_settings import Sharing
from experts.sleep_settings import Sleep

DomainName = NewType("DomainName", str)
EngineName = NewType("EngineName", str)
VariantName = NewType("VariantName", str)

# Names become Kubernetes and Ray names, which neither begin nor end with a hyphen.
NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Replicas(Settings):
    """How many copies of an engine run, and when Ray Serve adds one."""

    min: int = Field(default=1, ge=0, le=1000, description="Replicas kept when idle.")
    max: int = Field(default=1, ge=1, le=1000, description="Replicas at most.")
    target_in_flight: int = Field(
        default=8, ge=1, le=10_000, description="Requests in flight per replica at which Ray Serve scales up."
    )


class Engine(Settings):
    """One vLLM engine: what it loads and what it may use of its node. It is one Ray Serve application."""

    model: str = Field(
        min_length=1,
        description="Hub id, or a folder given as a path that starts with ./, ../ or / (relative to the fleet file).",
    )
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="Where the engine runs.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(default="auto", description="Type of the weights.")
    quantization: Literal["none", "fp8", "awq", "gptq", "compressed-tensors"] = Field(
        default="none", description="How the weights are quantized; fp8 quantizes full weights while loading."
    )
    max_model_len: int = Field(
        default=4096, ge=64, le=1_000_000, description="Context length in tokens, prompt and answer."
    )
    max_num_seqs: int = Field(default=16, ge=1, le=4096, description="Sequences that the engine runs at the same time.")
    max_in_flight: int = Field(
        default=64, ge=1, le=100_000, description="Requests one replica accepts at the same time, running and waiting."
    )
    max_queued: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Requests that may wait for a replica before new ones are refused (429).",
    )
    max_adapters: int = Field(
        default=0,
        ge=0,
        le=256,
        description="LoRA adapters that may be loaded at once; room to spare lets domains be added live.",
    )
    max_adapter_rank: int = Field(
        default=16, ge=1, le=512, description="Largest rank of a LoRA adapter on this engine."
    )
    kv_cache_gib: float = Field(default=0.5, gt=0, le=1024, description="Memory for the KV cache on a CPU, in GiB.")
    cpus: float = Field(default=1, gt=0, le=1024, description="CPU cores reserved per replica.")
    gpus: float = Field(
        default=1, gt=0, le=1, description="Share of a GPU that each of the engine's workers takes; device: gpu only."
    )
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs over which the weights are split.")
    elastic_kv: Literal["kvcached"] | None = Field(
        default=None,
        description="Lets the KV cache take and give back GPU memory as requests come and go, beyond its share of the "
        "GPU; device: gpu only, and kvcached on its nodes. Absent: a cache of fixed size within the share.",
    )
    node_type: str | None = Field(
        default=None,
        description="Node type (a key of `nodes`) that the engine runs on; its `gpu_type` is required of a node. "
        "Absent: those with GPUs, or for device: cpu those without that have room for it.",
    )
    replicas: Replicas = Field(default_factory=lambda: Replicas(), description="How many copies run.")
    scaling: Scaling = Field(
        default_factory=lambda: Scaling(), description="How the number of copies follows the demand."
    )
    placed_on: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        description="Machines for its replicas, as `guildhall plan --write` names them (gpu-1); empty: Ray chooses.",
    )
    sleep: Sleep | None = Field(default=None, description="When the engine sleeps; absent: never.")

    @property
    def sleeps_to_zero(self) -> bool:
        """Whether its replicas end when it sleeps; on a GPU they stay and give its memory back."""
        return self.sleep is not None and self.device == "cpu"

    @property
    def fewest_replicas(self) -> int:
        """Replicas kept without demand."""
        return 0 if self.sleeps_to_zero else self.replicas.min


class Variant(Settings):
    """One loadable build of an expert."""

    engine: str = Field(description="Engine (a key of `engines`) that runs it.")
    adapter: str | None = Field(
        default=None, description="Folder of a LoRA adapter on that engine's model; absent: the model itself answers."
    )
    cost: float = Field(
        default=1, gt=0, le=1_000_000, description="What one answer costs, relative to the other variants of the fleet."
    )
    accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the domain's questions that it answers right, as measured; absent: as good as any other.",
    )
    accept_template: str | None = Field(
        default=None,
        min_length=1,
        description="Fingerprint of another prompt template that the adapter or model was trained with and is served "
        "all the same, as its guildhall.json records it; absent: only the present template is served.",
    )


class Index(Settings):
    """What a domain's expert reads before it answers."""

    corpus: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of documents that `guildhall up` keeps the index equal to, relative to the fleet file; "
        "absent: the index holds only what is added.",
    )
    location: str | None = Field(
        default=None,
        min_length=1,
        description="Where the index lies: a folder (relative to the fleet file) or a URL such as s3://bucket/folder; "
        "absent: in GUILDHALL_DATA_DIR.",
    )
    passages: int = Field(default=4, ge=1, le=50, description="Passages that go into a prompt.")
    search: SearchMode = Field(
        default="hybrid", description="Search by meaning and words, by meaning only or by words only."
    )
    dense_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Weight of meaning against words in a hybrid search; absent: fused by reciprocal rank.",
    )
    reranker: str | None = Field(
        default=None,
        min_length=1,
        description="Cross-encoder that orders what was found, a hub id or a path; absent: no reranking.",
    )


class Slo(Settings):
    """What a domain's users are promised."""

    ttft_s: float = Field(default=2.0, gt=0, le=3600, description="Time to first token, in seconds.")
    tpot_s: float = Field(default=0.2, gt=0, le=60, description="Time per output token after the first, in seconds.")


class Domain(Settings):
    """One subject area, its expert's variants and its index."""

    description: str = Field(min_length=8, max_length=2000, description="What the domain covers, in one sentence.")
    examples: tuple[str, ...] = Field(
        default=(), max_length=1000, description="Questions of this domain; the router classifies by them."
    )
    variants: dict[Name, Variant] = Field(
        min_length=1,
        description="Builds of the domain's expert by name; the router chooses one for each sub-query by quality, cost "
        "and queue, and takes the first where nothing speaks for another.",
    )
    index: Index | None = Field(
        default=None, description="The domain's index; absent: the expert answers without passages."
    )
    max_in_flight: int = Field(
        default=64, ge=1, le=100_000, description="Sub-queries of this domain that one gateway replica keeps in flight."
    )
    max_tokens: int = Field(
        default=256, ge=1, le=1_000_000, description="Tokens of an answer when the request names no limit."
    )
    history_turns: int = Field(
        default=6,
        ge=0,
        le=100,
        description="Earlier turns of a conversation that go into the prompt; 0 for small experts.",
    )
    slo: Slo = Field(default_factory=lambda: Slo(), description="Targets for this domain.")


class Refusal(Settings):
    """What the fleet does not answer."""

    description: str = Field(min_length=8, max_length=2000, description="What is refused, in one sentence.")
    examples: tuple[str, ...] = Field(
        min_length=1, max_length=1000, description="Questions that are refused; the router classifies by them."
    )
    answer: str = Field(min_length=1, max_length=2000, description="What is answered instead.")


class Escalation(Settings):
    """When an answer that is likely wrong is asked for again, of a stronger variant or the generalist."""

    below: float = Field(
        default=0.5, gt=0, le=1, description="Probability of being right below which an answer is escalated."
    )
    share: float = Field(default=0.2, gt=0, le=1, description="Share of a domain's sub-queries that may be escalated.")


class Router(Settings):
    """How questions are split and classified, and which variant answers."""

    encoder: str = Field(
        default="all-MiniLM-L6-v2",
        min_length=1,
        description="Sentence encoder for routing and retrieval: the shipped all-MiniLM-L6-v2, a hub id or a path.",
    )
    confidence_floor: float = Field(
        default=0.30, ge=0, le=1, description="Cosine similarity below which the generalist answers."
    )
    max_sub_queries: int = Field(default=4, ge=1, le=32, description="Sub-queries of one question at most.")
    artifact: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of a router artifact from `guildhall router train`, relative to the fleet file; absent: "
        "trained on the descriptions and examples of this file when it is applied.",
    )
    quality: Literal["fast", "balanced", "best"] = Field(
        default="balanced", description="How variants are chosen where a request does not say."
    )
    escalation: Escalation | None = Field(default=None, description="When an answer is asked for again; absent: never.")
    planner_budget_s: float | None = Field(
        default=None,
        gt=0,
        le=60,
        description="Seconds that the generalist may take to plan a question that the router is unsure of; absent: the "
        "router's own plan is taken.",
    )
    refusals: dict[Name, Refusal] = Field(default_factory=dict, description="What the fleet does not answer, by name.")
    fusion: Literal["join", "synthesize"] = Field(
        default="join",
        description="Where a request does not say: answers one after another, or merged by the generalist.",
    )


class Gateway(Settings):
    """The HTTP server."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; only loopback without API keys."
    )
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    replicas: int = Field(default=1, ge=1, le=100, description="Copies of the gateway.")
    max_body_kib: int = Field(default=1024, ge=1, le=1_048_576, description="Largest request body, in KiB.")
    max_in_flight: int = Field(
        default=256, ge=1, le=100_000, description="Requests that one gateway replica serves at once."
    )
    answer_timeout_s: float = Field(
        default=120, gt=0, le=86_400, description="Longest time for one answer, in seconds."
    )


class NodeType(Settings):
    """Machines of one kind."""

    count: int = Field(default=1, ge=1, le=100_000, description="Machines of this kind.")
    min_count: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Machines of this kind that stay without demand; Ray's autoscaler adds others up to `count` on "
        "Kubernetes and with `ray up`. Absent: all stay.",
    )
    cpus: float = Field(gt=0, le=4096, description="CPU cores of one machine.")
    memory_gib: float = Field(gt=0, le=65_536, description="Memory of one machine, in GiB.")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of one machine.")
    gpu_memory_gib: float | None = Field(default=None, gt=0, le=4096, description="Memory of one GPU, in GiB.")
    gpu_type: str | None = Field(default=None, description="Accelerator type as Ray names it, for example H100.")

    @property
    def kept(self) -> int:
        """Machines that stay without demand."""
        return self.count if self.min_count is None else self.min_count


class Fleet(Settings):
    """Everything one fleet file describes."""

    name: Name = Field(description="Name of the fleet.")
    engines: dict[Name, Engine] = Field(min_length=1, description="vLLM engines by name.")
    domains: dict[Name, Domain] = Field(min_length=1, description="Domains by name.")
    generalist: str = Field(description="Domain (a key of `domains`) that answers what no other domain owns.")
    router: Router = Field(default_factory=lambda: Router(), description="How questions are split and classified.")
    gateway: Gateway = Field(default_factory=lambda: Gateway(), description="The HTTP server.")
    nodes: dict[Name, NodeType] = Field(min_length=1, description="Node types by name.")
    sharing: Sharing | None = Field(
        default=None, description="What the engines of one node share; absent: each keeps its own KV cache."
    )
    scaling: FleetScaling = Field(
        default_factory=lambda: FleetScaling(), description="What all engines together may take."
    )

    def domains_of(self, engine: str) -> dict[str, Domain]:
        """The domains that have a variant on an engine, in file order."""
        return {
            name: domain
            for name, domain in self.domains.items()
            if any(variant.engine == engine for variant in domain.variants.values())
        }


def is_path(reference: str) -> bool:
    """Whether a model, adapter, corpus or encoder reference is a path rather than a hub id."""
    return reference.startswith(("./", "../", "/"))


def resolve_path(reference: str, fleet_file: Path) -> str:
    """A path reference made absolute against the fleet file's folder; a hub id as it is."""
    return str((fleet_file.parent / reference).resolve()) if is_path(reference) else reference


def is_url(location: str) -> bool:
    """Whether an index's location is a URL rather than a folder."""
    return "://" in location

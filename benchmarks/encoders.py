"""What encoding a question costs, and what int8 loses: the router's two encoders beside others of the same weights.

Contenders take turns on one thread, so that whatever else the machine does falls on all alike. The first question of
a turn finds the caches full of another contender's weights and is counted apart, as cold.
The graph that torch's exporter and ONNX Runtime's own quantization give, and model2vec's lookup, are measured where
their packages are installed.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console

from benchmarks.result import save_result
from benchmarks.retrieval import K, rate
from benchmarks.scifact import ROOT, SciFact, Vectors, load_scifact, load_vectors
from retrieval.encoder import SHIPPED_ENCODER, find_encoder_folder, load_encoder
from retrieval.question_encoder import GRAPH_FILE, QuestionEncoder, load_question_encoder
from router.static_embedding import StaticEmbedding

QUESTIONS = {
    "11 tokens": "what is the interest rate on my savings account",
    "72 tokens": (
        "I keep a list of tuples with the name, the price and the yield of each bond in my portfolio; how do I sort it "
        "in Python by yield and then by price, and if two bonds have the same yield, does the one that matures first "
        "carry less interest rate risk, or does that depend on the coupon of each?"
    ),
}
TURNS = 25
TURN = 16
BATCHES = (2, 4, 8)
INTENTS = ROOT.parent / "shared/data/routing/clinc150.jsonl"
INTENT_SAMPLE = 1000
LOSS_LIMIT = 0.005

# Loads one encoder in a process of its own, encodes a question, and prints what that took.
LOADING = """
import resource, sys, time
from pathlib import Path
import numpy
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
before, wall, cpu = resident(), time.perf_counter(), time.process_time()
if sys.argv[1] == "question_encoder":
    from retrieval.question_encoder import load_question_encoder
    encoder = load_question_encoder(sys.argv[2], Path(sys.argv[3]), print)
else:
    from retrieval.encoder import load_encoder
    encoder = load_encoder(sys.argv[2])
encoder.encode_texts(["a question"])
print(time.perf_counter() - wall, time.process_time() - cpu, resident() - before)
"""

Embed = Callable[[str], object]
console = Console(stderr=True)


def export_graph(folder: Path) -> Mapping[str, Path]:
    """The encoder by torch's exporter, and that graph by ONNX Runtime's dynamic quantization, per channel."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(str(find_encoder_folder(SHIPPED_ENCODER))).eval()

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
    names = ["ids", "mask"]
    ones = torch.ones(2, 7, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(),
            (ones * 2000, ones),
            str(float32),
            input_names=names,
            output_names=["states"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in [*names, "states"]},
            dynamo=False,
        )
    quantize_dynamic(str(float32), str(int8), weight_type=QuantType.QInt8, per_channel=True)
    return {"exported_float32": float32, "exported_int8": int8}


def open_session(path: Path, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    """A graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def embed_exported(path: Path, encoder: QuestionEncoder) -> Callable[[str], Vectors]:
    """The vector of a text by an exported graph, at the default level of optimization."""
    session = open_session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)

    def embed(text: str) -> Vectors:
        ids = np.array([encoder.tokenizer.encode(text).ids])
        total: Vectors = session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0][0].sum(axis=0)
        return total / np.linalg.norm(total)

    return embed


def measure_latency(contenders: Mapping[str, Embed], text: str) -> dict[str, dict[str, float]]:
    """Milliseconds of wall and of processor per question."""
    wall: dict[str, list[list[float]]] = {name: [] for name in contenders}
    processor: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for _ in range(1 + TURNS):
        for name, embed in contenders.items():
            wall[name].append([])
            processor[name].append([])
            for _ in range(1 + TURN):
                started, used = time.perf_counter(), time.thread_time()
                embed(text)
                processor[name][-1].append(1000 * (time.thread_time() - used))
                wall[name][-1].append(1000 * (time.perf_counter() - started))
    figures: dict[str, dict[str, float]] = {}
    for name in contenders:
        # The first turn warms up.
        passed, spent = np.array(wall[name][1:]), np.array(processor[name][1:])
        figures[name] = {
            **{f"wall_ms_p{at}": float(np.percentile(passed[:, 1:], at)) for at in (50, 99)},
            **{f"cpu_ms_p{at}": float(np.percentile(spent[:, 1:], at)) for at in (50, 99)},
            "cold_cpu_ms_p50": float(np.median(spent[:, 0])),
        }
    reference = figures["sentence_transformers_float32"]["cpu_ms_p50"]
    for of_one in figures.values():
        of_one["times_faster_than_sentence_transformers"] = reference / of_one["cpu_ms_p50"]
    return figures


def measure_batches(graph: Path, encoder: QuestionEncoder) -> dict[str, dict[str, float]]:
    """Processor time of questions of one length in one call of the graph, as a share of that one by one."""
    figures: dict[str, dict[str, float]] = {}
    session = open_session(graph, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    for name, text in QUESTIONS.items():
        ids = np.array([encoder.tokenizer.encode(text).ids], dtype=np.int32)
        figures[name] = {}
        for count in BATCHES:
            together, alone = [], []
            for _ in range(TURNS * TURN // 4 // count):
                started = time.thread_time()
                session.run(None, {"ids": np.repeat(ids, count, axis=0)})
                between = time.thread_time()
                for _ in range(count):
                    session.run(None, {"ids": ids})
                together.append(between - started)
                alone.append(time.thread_time() - between)
            figures[name][f"{count} together"] = float(np.median(together) / np.median(alone))
    return figures


def measure_loading(data_dir: Path) -> dict[str, dict[str, float]]:
    """What each encoder costs a process that has only imported numpy, until its first question is encoded."""
    figures = {}
    for name in ("question_encoder", "sentence_transformers_float32"):
        command = [sys.executable, "-c", LOADING, name, SHIPPED_ENCODER, str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        values = done.stdout.splitlines()[-1].split()
        figures[name] = dict(zip(("wall_s", "cpu_s", "resident_mib"), map(float, values), strict=True))
    return figures


def describe_agreement(vectors: Vectors, float32: Vectors) -> dict[str, float]:
    """Cosines to float32."""
    cosines = (vectors * float32).sum(axis=1)
    return {
        "mean": float(cosines.mean()),
        "p1": float(np.percentile(cosines, 1)),
        "minimum": float(cosines.min()),
    }


def measure_search(scifact: SciFact, abstracts: Vectors, claims: Mapping[str, Vectors]) -> dict[str, dict[str, float]]:
    """Exact search of float32 abstracts."""
    return {
        split: rate({claim: np.argsort(-(abstracts @ claims[claim]))[:K].tolist() for claim in relevant}, relevant)
        for split, relevant in scifact.relevant.items()
    }


def sample_intents() -> Sequence[str]:
    """Short requests of CLINC150, where they are."""
    if not INTENTS.is_file():
        console.print(f"no agreement on short requests: CLINC150 is not in {INTENTS}")
        return []
    texts = [json.loads(line)["text"] for line in INTENTS.read_text().splitlines()]
    return [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[:INTENT_SAMPLE]]


def main() -> None:
    """Run, write the result and say whether the limit holds."""
    scifact = load_scifact()
    abstracts, all_claims = load_vectors(scifact)
    intents = sample_intents()
    with tempfile.TemporaryDirectory() as temporary:
        started, used = time.perf_counter(), time.process_time()
        encoder = load_question_encoder(SHIPPED_ENCODER, Path(temporary), console.print)
        making = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - used}
        loading = measure_loading(Path(temporary))
        float32 = load_encoder(SHIPPED_ENCODER)
        (graph,) = Path(temporary).rglob(GRAPH_FILE)
        batches = measure_batches(graph, encoder)
        static = StaticEmbedding(encoder.token_table.codes, encoder.token_table.scales)
        exported = {name: embed_exported(path, encoder) for name, path in export_graph(Path(temporary)).items()}
    contenders: dict[str, Embed] = {
        "static_embedding": lambda text: static.embed([encoder.tokenize(text)]),
        "question_encoder": lambda text: encoder.encode_texts([text]),
        **exported,
        "sentence_transformers_float32": lambda text: float32.encode([text]),
    }
    if importlib.util.find_spec("model2vec"):
        from model2vec import StaticModel

        table = encoder.token_table
        model = StaticModel(table.codes * table.scales[:, None], encoder.tokenizer)
        contenders = {"model2vec": lambda text: model.encode([text]), **contenders}
    latency = {}
    for name, text in QUESTIONS.items():
        latency[name] = measure_latency(contenders, text)
        for contender, figures in latency[name].items():
            console.print(f"{name}, {contender}: {figures}")
    judged = sorted(set().union(*scifact.relevant.values()))
    rows = {claim: row for row, claim in enumerate(scifact.claims)}
    claims32 = {claim: all_claims[rows[claim]] for claim in judged}
    agreement: dict[str, dict[str, Any]] = {}
    search = {"float32": measure_search(scifact, abstracts, claims32)}
    intents32 = float32.encode(intents)
    for name, embed in (
        ("question_encoder", lambda text: encoder.encode_texts([text]).vectors[0]),
        ("exported_int8", exported["exported_int8"]),
    ):
        claims8 = {claim: embed(scifact.claims[claim]) for claim in judged}
        agreement[name] = {
            "scifact_claims": describe_agreement(np.array(list(claims8.values())), np.array(list(claims32.values())))
        }
        if intents:
            agreement[name]["clinc150"] = describe_agreement(np.array([embed(text) for text in intents]), intents32)
        search[name] = measure_search(scifact, abstracts, claims8)
    loss = search["float32"]["test"]["ndcg_at_10"] - search["question_encoder"]["test"]["ndcg_at_10"]
    path = save_result(
        "encoders",
        {
            "data": f"SciFact: {len(abstracts)} abstracts in float32, {len(judged)} claims; {len(intents)} requests of "
            "CLINC150",
            "encoder": SHIPPED_ENCODER,
            "questions": {name: len(encoder.tokenizer.encode(text).ids) for name, text in QUESTIONS.items()},
            "repeats": TURNS * TURN,
            "latency_one_thread": latency,
            "loading": loading,
            "making_the_files_once": making,
            "batch_as_share_of_one_by_one": batches,
            "cosine_to_float32": agreement,
            "search_of_float32_abstracts": search,
            "targets": {
                "ndcg_at_10_lost_at_most": LOSS_LIMIT,
                "lost": loss,
                "reached": loss <= LOSS_LIMIT,
            },
        },
    )
    console.print(f"wrote {path}; nDCG@10 lost by int8 questions: {loss:.4f}, limit {LOSS_LIMIT}")


if __name__ == "__main__":
    main()

"""A fleet file without mistakes, and what tests make of it."""

from pathlib import Path

GOOD = """\
name: office
engines:
  small:
    model: ./models/small
    max_adapters: 1
  large:
    model: Qwen/Qwen2.5-7B-Instruct
    device: gpu
    tensor_parallel: 2
    node_type: big
domains:
  law:
    description: Contracts, courts and statutes.
    examples: [Who may sue]
    variants:
      full: {engine: large}
      adapter: {engine: small, adapter: ./adapters/law}
    index: {corpus: corpora/law}
  general:
    description: Everything that no other domain owns.
    variants:
      full: {engine: small}
generalist: general
router:
  encoder: all-MiniLM-L6-v2
nodes:
  big: {cpus: 32, memory_gib: 256, gpus: 4}
  little: {cpus: 4, memory_gib: 16}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)

"""Trains the boundary head that router/weights ships: `python -m benchmarks.boundary_training --data ../shared/data`.

Composing and encoding took 9 minutes and training 7 on two cores with a load of 10; idle it is less. It stands here
because `router`, which has everything else, may not import the encoder.
"""

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deployments.environment import read_environment
from retrieval.encoder import SHIPPED_ENCODER
from retrieval.question_encoder import QuestionEncoder, load_question_encoder
from router.boundary_head import SHIPPED_BOUNDARIES, BoundaryHead, save_boundary_head
from router.boundary_split import split_with_head
from router.boundary_training import Tagged, tag_composed, train_boundary_head
from router.composed import Composed, build_pool, draw_composed
from router.composed_sources import fingerprint_sources, load_sources

TRAINING = 24_000
TUNING = 3_000
WRONG_SHARE = 0.035
"""Of single questions, hard ones included, that may be split. The aim is 0.01, which no threshold has reached."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
REPORTED = 4_000


def main() -> None:
    """Compose, encode, train, choose the threshold on other questions of the same half, write."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--out", type=Path, default=SHIPPED_BOUNDARIES)
    arguments.add_argument("--encoder", default=SHIPPED_ENCODER)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    began = time.monotonic()
    encoder = load_question_encoder(given.encoder, read_environment().data_dir, print)
    pool = build_pool(load_sources(given.data, "train"), "train")
    composed = draw_composed(pool, TRAINING, given.seed + 2)
    tagged = encode_tagged(composed, encoder)
    print(f"{sum(len(row.tags) for row in tagged)} tokens encoded after {time.monotonic() - began:.0f} s")
    sources = fingerprint_sources(given.data)
    texts = hashlib.sha256("\x00".join(made.text for made in composed).encode()).hexdigest()[:16]
    said = {"seed": str(given.seed), "questions": str(TRAINING), "sources": sources, "composed": texts}
    head = train_boundary_head(tagged, encoder.fingerprint, given.seed, said)
    print(f"trained after {time.monotonic() - began:.0f} s")
    head = choose_threshold(head, draw_composed(pool, TUNING, given.seed + 3), encoder)
    save_boundary_head(head, given.out)
    print(f"threshold {head.threshold}, {head.metadata}; written to {given.out}")


def encode_tagged(composed: Sequence[Composed], encoder: QuestionEncoder) -> list[Tagged]:
    """The questions as the head sees them."""
    tagged = []
    for at, made in enumerate(composed, start=1):
        encoded = encoder.encode_texts([made.text])
        tagged.append(tag_composed(made, encoded.states[0], encoded.offsets[0]))
        if at % REPORTED == 0:
            print(f"{at} of {len(composed)} questions encoded")
    return tagged


def choose_threshold(head: BoundaryHead, composed: Sequence[Composed], encoder: QuestionEncoder) -> BoundaryHead:
    """The head with the lowest threshold by which at most WRONG_SHARE of the single questions are split."""
    encoded = [encoder.encode_texts([made.text]) for made in composed]
    singles = sum(len(made.spans) == 1 for made in composed)
    for threshold in THRESHOLDS:
        head = replace(head, threshold=threshold)
        counts = [
            len(split_with_head(made.text, said.states[0], said.offsets[0], head, len(made.text)))
            for made, said in zip(composed, encoded, strict=True)
        ]
        pairs = list(zip(counts, composed, strict=True))
        wrong = sum(count > 1 for count, made in pairs if len(made.spans) == 1) / singles
        missed = sum(count != len(made.spans) for count, made in pairs if len(made.spans) > 1)
        figures = {"wrongly_split": f"{wrong:.4f}", "other_count": f"{missed / (len(composed) - singles):.4f}"}
        head = replace(head, metadata={**head.metadata, **figures})
        print(f"threshold {threshold}: {figures}")
        if wrong <= WRONG_SHARE:
            break
    return head


if __name__ == "__main__":
    main()

"""Train the pocket base from scratch, then one LoRA adapter per domain on it.

    python -m experts.pocket.train base --tokens 150 --work build/pocket --grow-from experts/pocket/weights/base
    python -m experts.pocket.train finance --tokens 8 --work build/pocket      # then math, coding, reasoning
    python -m experts.pocket.train monolith --tokens 150 --work build/pocket
    python -m experts.pocket.evaluate --edition 2 --weights build/pocket/weights

Checkpoints, the tokenizer, a log of held-out scores and the results, under `weights`, go to `--work`; a run that finds
a checkpoint there goes on from it, whenever it was stopped. `--export` only writes the result. What is to be shipped is
copied to `experts/pocket/weights` by hand.

The shipped base is of the first edition (`--edition 1`): it saw 32 million tokens on two shared cores in 104 minutes,
in several runs over the same checkpoint: the passage marks, the probes and local SGD came in after the first 12
million, the invented modules, types, meanings and steady company numbers after 24 million, the last phrasings of math
and coding in their adapters only. A run from scratch has all of them from its first step.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.console import Console
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from experts.pocket.batches import Batch, Tensors, collate, encode_exercise
from experts.pocket.drawing import Drawing, Source
from experts.pocket.editions import EDITIONS, DrawExercise
from experts.pocket.exercise import Wanted
from experts.pocket.export import ADAPTER_DOMAINS, add_adapter, export_adapter, export_base, load_base
from experts.pocket.growth import grow_base
from experts.pocket.model import BRANCHED_ATTENTION, SHAPES, Layers, Probes, Shape, make_model
from experts.pocket.optimizer import WARMUP_SHARE, make_optimizers, scale_rate, set_rates
from experts.pocket.tasks import DOMAINS
from experts.pocket.vocabulary import load_tokenizer, train_tokenizer

# Small on a CPU, because attention scores grow with it and leave the cache. On a GPU not yet measured.
_TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
# Held-out scores are taken this often in a schedule, on so many exercises of each domain.
_SCORED_SHARE = 0.02
_HELD_OUT_EXERCISES = 32
# The mean loss per answer token below which contexts get longer.
_EASY_LOSS, _MIDDLE_LOSS = 0.45, 0.35
# The weight of the loss on all other tokens, by the largest number of passages: names repeat between a title, its text
# and the questions, so predicting them teaches copying early on.
_CONTEXT_WEIGHT = {2: 0.3, 3: 0.1, 4: 0.0}
# Processes step alone and average their parameters this often (local SGD, Stich 2019): on a shared machine the two
# are rarely equally fast.
_STEPS_PER_SYNC = 4
# A grown base that soon comes to the full rates forgets what it had learned: stated finance facts copied right fell
# from 65 % to 30 % within 0.5 million tokens and to 3 % within 0.9. Warmed up over some 2 million, it had 58 % after
# 1.6, 15 % after 2.6, at the full rates, and 67 % again after 6.9.
_GROWN_WARMUP_SHARE = 0.06
_SAVE_EVERY_S = 120.0


_CONSOLE = Console(highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Job:
    """One training run, as every process of it knows it. `tokens` is the length of its whole schedule."""

    target: str
    tokens: float
    processes: int
    work: Path
    compiled: bool
    mix: dict[str, float]
    edition: int
    grown_from: Path | None
    drawers: int

    @property
    def checkpoint(self) -> Path:
        return self.work / f"{self.target}.pt"

    @property
    def adapter(self) -> bool:
        return self.target in ADAPTER_DOMAINS

    @property
    def shape(self) -> Shape:
        return SHAPES[self.target if self.target == "monolith" else "first" if self.edition == 1 else "second"]

    @property
    def draw(self) -> DrawExercise:
        return EDITIONS[self.edition]


def choose_difficulty(share: float, loss: float) -> Wanted:
    """Short contexts first, so that matching and copying are found early; the served form once these are learned."""
    if loss > _EASY_LOSS and share < 0.3:
        return Wanted(passages=(1, 2), refusal_share=0.05)
    if loss > _MIDDLE_LOSS and share < 0.45:
        return Wanted(passages=(1, 2, 3), refusal_share=0.12)
    return Wanted(passages=(2, 3, 4), refusal_share=0.18)


def compute_loss(
    layers: nn.Module, head: nn.Module, probes: nn.Module | None, batch: Tensors, everywhere: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss on the answers, with the probes' and `everywhere` times that on all tokens; and the answers' alone."""
    wanted, learn = batch.ids[:, 1:], batch.learn[:, 1:]
    with torch.autocast(batch.ids.device.type, dtype=torch.bfloat16):
        hidden, middle, after = layers(batch.ids, batch.positions, batch.mask)
        hidden = hidden[:, :-1]
        answers = functional.cross_entropy(head(hidden[learn]).float(), wanted[learn])
        loss = answers
        if probes is not None:
            starts = functional.pad(learn, (0, 1)) & ~batch.learn
            loss = loss + probes(middle, after, batch.passage, starts)
        if everywhere:
            real = (wanted != 0) & ~learn
            loss = loss + everywhere * functional.cross_entropy(head(hidden[real]).float(), wanted[real])
    return loss, answers


@torch.no_grad()
def measure_exact(model: nn.Module, head: nn.Module, batches: Iterable[Tensors]) -> dict[str, float]:
    """By task, the share of questions whose every answer token is the most likely one.

    That is the share that greedy decoding answers word for word.
    """
    right: dict[str, list[bool]] = {}
    for batch in batches:
        with torch.autocast(batch.ids.device.type, dtype=torch.bfloat16):
            hidden = model(batch.ids, batch.positions, batch.mask)[0][:, :-1]
            learn = batch.learn[:, 1:]
            hit = head(hidden[learn]).argmax(-1) == batch.ids[:, 1:][learn]
        missed = torch.zeros_like(learn)
        missed[learn] = ~hit
        # An answer is a run of learned tokens; runs lie apart because a question stands between them.
        begins = learn & ~functional.pad(learn, (1, 0))[:, :-1]
        answer = begins.flatten().cumsum(0)[learn.flatten()] - 1
        wrong = torch.zeros(len(batch.tasks), device=answer.device).index_add(0, answer, missed[learn].float())
        for task, count in zip(batch.tasks, wrong.tolist(), strict=True):
            right.setdefault(task, []).append(count == 0)
    return {task: sum(one) / len(one) for task, one in sorted(right.items())}


def _draw_held_out(tokenizer: PreTrainedTokenizerFast, draw: DrawExercise, domain: str, exercises: int) -> list[Batch]:
    rng = random.Random(f"held out {domain}")  # noqa: S311
    drawn = [draw(domain, rng, Wanted(held_out=True)) for _ in range(exercises)]
    encoded = [encode_exercise(one, tokenizer) for one in drawn if one.asked]
    encoded.sort(key=lambda one: len(one.ids))
    return [collate(encoded[start : start + 8]) for start in range(0, len(encoded), 8)]


def _make_whole(job: Job, tokenizer: PreTrainedTokenizerFast) -> Any:
    """What is trained, as it is before its first step."""
    if job.adapter:
        return add_adapter(load_base(job.work / "weights" / "base"), job.target)
    return grow_base(job.grown_from, tokenizer, job.shape) if job.grown_from else make_model(job.shape)


def run_process(rank: int, job: Job) -> None:
    """One process of a run; each on its own exercises, averaged every few steps."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if job.processes > 1:
        dist.init_process_group("gloo", rank=rank, world_size=job.processes, timeout=timedelta(minutes=30))
    torch.manual_seed(0)
    tokenizer = load_tokenizer(job.work / "tokenizer")
    whole = _make_whole(job, tokenizer).to(device)
    causal = whole.base_model.model if job.adapter else whole
    causal.set_attn_implementation(BRANCHED_ATTENTION)
    probes = Probes(job.shape.hidden).to(device)
    trained = [parameter for parameter in [*whole.parameters(), *probes.parameters()] if parameter.requires_grad]
    optimizers = make_optimizers(whole, job.adapter)
    optimizers.append(torch.optim.AdamW(probes.parameters(), lr=0.003))
    set_rates(optimizers, 1.0)
    warmup = _GROWN_WARMUP_SHARE if job.grown_from else WARMUP_SHARE
    seen = 0
    recent: list[float] = []
    if job.checkpoint.exists():
        state = torch.load(job.checkpoint, weights_only=True, map_location=device)
        whole.load_state_dict(state["model"], strict=not job.adapter)
        probes.load_state_dict(state["probes"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        seen, recent = state["seen"], state["recent"]
    core = Layers(causal.model)
    if job.compiled:
        # One layer at a time: the layers share what is compiled, which takes a sixth of the time of all at once.
        for layer in causal.model.layers:
            layer.compile(dynamic=True)
    head = causal.lm_head
    source = Source(job.edition, job.mix, job.work / "tokenizer", _TOKENS_PER_BATCH[device.type])
    measured = [job.target] if job.adapter else DOMAINS
    held_out = {name: _draw_held_out(tokenizer, job.draw, name, _HELD_OUT_EXERCISES) for name in measured}
    started = saved_at = time.monotonic()
    step, drawing, begun, scored = 0, 0.0, seen, seen
    with Drawing(source, f"{job.target} {rank} {seen}", job.drawers) as ahead:
        while seen < job.tokens:
            pool_started = time.monotonic()
            loss_now = sum(recent) / len(recent) if recent else 9.0
            wanted = choose_difficulty(1.0 if job.adapter else seen / job.tokens, loss_now)
            pool = ahead.take(wanted)
            drawing += time.monotonic() - pool_started
            # Every process takes the same number of steps per pool.
            common = int(_sum_over([len(pool)], job.processes, smallest=True)[0])
            chosen = pool[: common - common % _STEPS_PER_SYNC]
            # Every process counts the same, or one would end while another waits for it.
            per_step = int(_sum_over([sum(batch.ids.size for batch in chosen)], job.processes)[0]) // len(chosen)
            for drawn in chosen:
                if seen >= job.tokens:
                    break
                batch, now = drawn.move(device), time.monotonic()
                if step % _STEPS_PER_SYNC == 0:
                    _average_parameters(trained, job.processes)
                set_rates(optimizers, scale_rate(seen / job.tokens, warmup))
                everywhere = 0.0 if job.adapter else _CONTEXT_WEIGHT[max(wanted.passages)]
                loss, answers = compute_loss(core, head, probes, batch, everywhere)
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(trained, 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                step += 1
                seen += per_step
                recent = [*recent[-49:], float(answers.detach())]
                if rank == 0 and step % 20 == 0:
                    speed = (seen - begun) / (now - started)
                    _CONSOLE.print(
                        f"{job.target} step {step} loss {sum(recent) / len(recent):.3f} tokens {seen / 1e6:.2f}M"
                        f" of {job.tokens / 1e6:.0f}M tokens/s {speed:.0f} drawing {drawing / (now - started):.1%}"
                        f" passages {max(wanted.passages)} left {(job.tokens - seen) / speed / 60:.1f} min"
                    )
                if rank == 0 and now - saved_at > _SAVE_EVERY_S:
                    saved_at = now
                    _save(job, whole, probes, optimizers, seen, recent)
                if seen - scored > _SCORED_SHARE * job.tokens:
                    scored = seen
                    if rank == 0:
                        _report(job, core, head, held_out, device, seen, sum(recent) / len(recent))
    if rank == 0:
        _save(job, whole, probes, optimizers, seen, recent)
        _report(job, core, head, held_out, device, seen, sum(recent) / max(1, len(recent)))


def _sum_over(values: list[float], processes: int, smallest: bool = False) -> list[float]:
    if processes == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN if smallest else dist.ReduceOp.SUM)
    return [float(value) for value in tensor]


def _average_parameters(parameters: list[nn.Parameter], processes: int) -> None:
    if processes == 1:
        return
    with torch.no_grad():
        flat = torch.cat([parameter.flatten() for parameter in parameters])
        dist.all_reduce(flat)
        flat /= processes
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))


def _save(
    job: Job,
    model: nn.Module,
    probes: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    seen: int,
    recent: list[float],
) -> None:
    state = {
        "model": {name: tensor for name, tensor in model.state_dict().items() if not job.adapter or "lora_" in name},
        "probes": probes.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "seen": seen,
        "recent": recent,
    }
    aside = job.checkpoint.with_suffix(".tmp")
    torch.save(state, aside)
    os.replace(aside, job.checkpoint)


def _report(
    job: Job,
    core: nn.Module,
    head: nn.Module,
    held_out: dict[str, list[Batch]],
    device: torch.device,
    seen: int,
    loss: float,
) -> None:
    scores = {
        name: {
            task: round(share, 3)
            for task, share in measure_exact(core, head, (batch.move(device) for batch in batches)).items()
        }
        for name, batches in held_out.items()
    }
    line = {"target": job.target, "tokens": seen, "loss": round(loss, 4), "exact": scores}
    _CONSOLE.print(json.dumps(line))
    with (job.work / "scores.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["base", "monolith", *ADAPTER_DOMAINS])
    parser.add_argument("--edition", type=int, choices=list(EDITIONS), default=2, help="what is learned")
    parser.add_argument("--tokens", type=float, default=150.0, help="millions of tokens of the whole schedule")
    parser.add_argument("--processes", type=int, default=1, help="one core each")
    parser.add_argument("--work", type=Path, default=Path("build/pocket"), help="checkpoints, logs and results")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="skip torch.compile")
    parser.add_argument("--mix", default="", help="weights of domains, as finance=1,math=2; the others weigh 1")
    parser.add_argument("--drawers", type=int, default=0, help="processes that draw exercises ahead, for a GPU")
    parser.add_argument("--grow-from", type=Path, help="a trained base with fewer layers to begin from")
    parser.add_argument("--export", action="store_true", help="write the checkpoint as it is and stop")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "tokenizer").exists():
        train_tokenizer(EDITIONS[given.edition]).save_pretrained(str(given.work / "tokenizer"))
    mix = {given.target: 1.0} if given.target in ADAPTER_DOMAINS else dict.fromkeys(DOMAINS, 1.0)
    mix.update({name: float(weight) for name, weight in (pair.split("=") for pair in given.mix.split(",") if pair)})
    job = Job(
        given.target,
        given.tokens * 1e6,
        given.processes,
        given.work,
        given.compiled,
        mix,
        given.edition,
        given.grow_from,
        given.drawers,
    )
    if not given.export:
        if given.processes > 1:
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29571")
            mp.spawn(run_process, args=(job,), nprocs=given.processes)
        else:
            run_process(0, job)
    if job.adapter:
        export_adapter(job.checkpoint, job.target, job.work / "weights")
    else:
        export_base(job.checkpoint, job.work / "tokenizer", job.work / "weights" / job.target, job.shape)


if __name__ == "__main__":
    main()

"""Train the pocket base from scratch, then one LoRA adapter per domain on it.

    python -m experts.pocket.train base --minutes 60 --processes 2
    python -m experts.pocket.train finance --minutes 6      # then math, coding, reasoning
    python -m experts.pocket.evaluate --json benchmarks/results/pocket_experts.json

Checkpoints, the tokenizer and a log of held-out scores go to `--work`; a run that finds a checkpoint there goes on from
it. The result is written to `experts/pocket/weights/`, aside first and then renamed. `--export` only writes it.

The shipped base saw 32 million tokens on two shared cores in 104 minutes, in several runs over the same checkpoint: the
passage marks, the probes and local SGD came in after the first 12 million, the invented modules, types, meanings and
steady company numbers after 24 million, the last phrasings of math and coding in their adapters only. A run from
scratch has all of them from its first step.
"""

import argparse
import json
import os
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.console import Console
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from experts.pocket.batches import Batch, Difficulty, collate, draw_batches, encode_exercise
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS, add_adapter, export_adapter, export_base, load_base
from experts.pocket.model import BRANCHED_ATTENTION, Layers, Probes, make_model
from experts.pocket.optimizer import make_optimizers, scale_rate, set_rates
from experts.pocket.tasks import DOMAINS, draw_exercise
from experts.pocket.vocabulary import load_tokenizer, train_tokenizer

# Small, because attention scores grow with it and leave the cache.
_TOKENS_PER_BATCH = 4096
_EVALUATE_EVERY_S = 400.0
# The mean loss per answer token below which contexts get longer.
_EASY_LOSS, _MIDDLE_LOSS = 0.45, 0.35
# The weight of the loss on all other tokens, by the largest number of passages: names repeat between a title, its text
# and the questions, so predicting them teaches copying early on.
_CONTEXT_WEIGHT = {2: 0.3, 3: 0.1, 4: 0.0}
# Processes step alone and average their parameters this often (local SGD, Stich 2019): on a shared machine the two
# are rarely equally fast.
_STEPS_PER_SYNC = 4
_SAVE_EVERY_S = 120.0


_CONSOLE = Console(highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Job:
    """One training run, as every process of it knows it."""

    target: str
    seconds: float
    processes: int
    work: Path
    compiled: bool
    mix: dict[str, float]
    start_share: float | None

    @property
    def checkpoint(self) -> Path:
        return self.work / f"{self.target}.pt"


def choose_difficulty(share: float, loss: float) -> Difficulty:
    """Short contexts first, so that matching and copying are found early; the served form once these are learned."""
    if loss > _EASY_LOSS and share < 0.3:
        return Difficulty((1, 2), 6, 0.05)
    if loss > _MIDDLE_LOSS and share < 0.45:
        return Difficulty((1, 2, 3), 6, 0.12)
    return Difficulty((2, 3, 4), 6, 0.18)


def compute_loss(
    layers: nn.Module, head: nn.Module, probes: nn.Module | None, batch: Batch, everywhere: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss on the answers, with the probes' and `everywhere` times that on all tokens; and the answers' alone."""
    wanted, learn = batch.ids[:, 1:], batch.learn[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, second, third = layers(batch.ids, batch.positions, batch.mask)
        hidden = hidden[:, :-1]
        answers = functional.cross_entropy(head(hidden[learn]).float(), wanted[learn])
        loss = answers
        if probes is not None:
            starts = functional.pad(learn, (0, 1)) & ~batch.learn
            loss = loss + probes(second, third, batch.passage, starts)
        if everywhere:
            real = (wanted != 0) & ~learn
            loss = loss + everywhere * functional.cross_entropy(head(hidden[real]).float(), wanted[real])
    return loss, answers


@torch.no_grad()
def measure_exact(model: nn.Module, head: nn.Module, batches: list[Batch]) -> float:
    """The share of questions whose every answer token is the most likely one, which is what greedy decoding yields."""
    right = total = 0
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model(batch.ids, batch.positions, batch.mask)[0][:, :-1]
            learn = batch.learn[:, 1:]
            hit = head(hidden[learn]).argmax(-1) == batch.ids[:, 1:][learn]
        grid = torch.ones_like(learn)
        grid[learn] = hit
        # An answer is a run of learned tokens; runs are told apart by where the positions jump back.
        for row in range(learn.shape[0]):
            marks = learn[row].nonzero().flatten().tolist()
            start = 0
            for index in range(1, len(marks) + 1):
                if index == len(marks) or marks[index] != marks[index - 1] + 1:
                    total += 1
                    right += int(bool(grid[row, marks[start] : marks[index - 1] + 1].all()))
                    start = index
    return right / max(total, 1)


def _draw_held_out(tokenizer: PreTrainedTokenizerFast, domain: str, exercises: int = 16) -> list[Batch]:
    rng = random.Random(f"held out {domain}")  # noqa: S311
    drawn = [draw_exercise(domain, rng, held_out=True) for _ in range(exercises)]
    encoded = [encode_exercise(one, tokenizer) for one in drawn if one.asked]
    encoded.sort(key=lambda one: len(one.ids))
    return [collate(encoded[start : start + 8]) for start in range(0, len(encoded), 8)]


def run_process(rank: int, job: Job) -> None:
    """One process of a run; each on its own exercises, averaged every few steps."""
    torch.set_num_threads(1)
    if job.processes > 1:
        dist.init_process_group("gloo", rank=rank, world_size=job.processes, timeout=timedelta(minutes=30))
    torch.manual_seed(0)
    adapter = job.target != "base"
    tokenizer = load_tokenizer(WEIGHTS / "base" if adapter else job.work / "tokenizer")
    whole = add_adapter(load_base(WEIGHTS / "base"), job.target) if adapter else make_model()
    causal = whole.base_model.model if adapter else whole
    causal.set_attn_implementation(BRANCHED_ATTENTION)
    probes = Probes()
    trained = [parameter for parameter in [*whole.parameters(), *probes.parameters()] if parameter.requires_grad]
    optimizers = make_optimizers(whole, adapter)
    optimizers.append(torch.optim.AdamW(probes.parameters(), lr=0.003))
    set_rates(optimizers, 1.0)
    share_from, seen = job.start_share or 0.0, 0
    if job.checkpoint.exists():
        state = torch.load(job.checkpoint, weights_only=True)
        whole.load_state_dict(state["model"], strict=not adapter)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=False):
            optimizer.load_state_dict(saved)
        share_from = state["share"] if job.start_share is None else job.start_share
        seen = state["seen"]
    layers: nn.Module = Layers(causal.model)
    core = torch.compile(layers, dynamic=True) if job.compiled else layers
    head = causal.lm_head
    rng = random.Random(f"{job.target} {rank} {seen}")  # noqa: S311
    held_out = {name: _draw_held_out(tokenizer, name) for name in DOMAINS if not adapter or name == job.target}
    started = saved_at = evaluated_at = time.monotonic()
    step, drawing = 0, 0.0
    recent: list[float] = []
    share = share_from
    while share < 1.0:
        pool_started = time.monotonic()
        loss_now = sum(recent) / len(recent) if recent else (0.0 if share > 0.5 else 9.0)
        difficulty = choose_difficulty(1.0 if adapter else share, loss_now)
        pool = list(draw_batches(tokenizer, rng, job.mix, difficulty, _TOKENS_PER_BATCH))
        drawing += time.monotonic() - pool_started
        # Every process takes the same number of steps per pool.
        common = int(_sum_over([len(pool)], job.processes, smallest=True)[0])
        for batch in pool[: common - common % _STEPS_PER_SYNC]:
            now = time.monotonic()
            if step % _STEPS_PER_SYNC == 0:
                _average_parameters(trained, job.processes)
                share = share_from + (1.0 - share_from) * (now - started) / job.seconds
                share = _sum_over([share], job.processes)[0] / job.processes
                if share >= 1.0:
                    break
            set_rates(optimizers, scale_rate(share))
            everywhere = 0.0 if adapter else _CONTEXT_WEIGHT[max(difficulty.passages)]
            loss, answers = compute_loss(core, head, probes, batch, everywhere)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            seen += batch.ids.numel() * job.processes
            recent = [*recent[-49:], float(answers.detach())]
            if rank == 0 and step % 50 == 0:
                speed = step / (now - started)
                left = (1.0 - share) * job.seconds / (1.0 - share_from) / 60
                _CONSOLE.print(
                    f"{job.target} step {step} share {share:.3f} loss {sum(recent) / len(recent):.3f}"
                    f" tokens {seen / 1e6:.1f}M step/s {speed:.2f} drawing {drawing / (now - started):.1%}"
                    f" passages {max(difficulty.passages)} left {left:.1f} min"
                )
            if rank == 0 and now - saved_at > _SAVE_EVERY_S:
                saved_at = now
                _save(job, whole, optimizers, share, seen)
            if now - evaluated_at > _EVALUATE_EVERY_S:
                evaluated_at = now
                if rank == 0:
                    _report(job, core, head, held_out, share, seen)
    if rank == 0:
        _save(job, whole, optimizers, min(share, 1.0), seen)
        _report(job, core, head, held_out, min(share, 1.0), seen)


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


def _save(job: Job, model: nn.Module, optimizers: list[torch.optim.Optimizer], share: float, seen: int) -> None:
    kept = {name: tensor for name, tensor in model.state_dict().items() if job.target == "base" or "lora_" in name}
    state = {"model": kept, "optimizers": [o.state_dict() for o in optimizers], "share": share, "seen": seen}
    aside = job.checkpoint.with_suffix(".tmp")
    torch.save(state, aside)
    os.replace(aside, job.checkpoint)


def _report(
    job: Job, core: nn.Module, head: nn.Module, held_out: dict[str, list[Batch]], share: float, seen: int
) -> None:
    scores = {name: round(measure_exact(core, head, batches), 3) for name, batches in held_out.items()}
    line = {"target": job.target, "share": round(share, 4), "tokens": seen, "exact": scores}
    _CONSOLE.print(json.dumps(line))
    with (job.work / "scores.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["base", *ADAPTER_DOMAINS])
    parser.add_argument("--minutes", type=float, default=60.0, help="training time of this run")
    parser.add_argument("--processes", type=int, default=1, help="one core each")
    parser.add_argument("--work", type=Path, default=Path("build/pocket"), help="checkpoints and logs")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="skip torch.compile")
    parser.add_argument("--mix", default="", help="weights of domains, as finance=1,math=2; the others weigh 1")
    parser.add_argument(
        "--start-share", type=float, help="where in its schedule the run begins, whatever its checkpoint says"
    )
    parser.add_argument("--export", action="store_true", help="write the checkpoint as it is and stop")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.target == "base" and not (given.work / "tokenizer").exists():
        train_tokenizer().save_pretrained(str(given.work / "tokenizer"))
    mix = dict.fromkeys(DOMAINS, 1.0) if given.target == "base" else {given.target: 1.0}
    mix.update({name: float(weight) for name, weight in (pair.split("=") for pair in given.mix.split(",") if pair)})
    job = Job(given.target, given.minutes * 60, given.processes, given.work, given.compiled, mix, given.start_share)
    if not given.export:
        if given.processes > 1:
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29571")
            mp.spawn(run_process, args=(job,), nprocs=given.processes)
        else:
            run_process(0, job)
    if job.target == "base":
        export_base(job.checkpoint, job.work / "tokenizer")
    else:
        export_adapter(job.checkpoint, job.target)


if __name__ == "__main__":
    main()

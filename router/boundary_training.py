"""Training the boundary head on composed questions; torch is imported here only, when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from router.boundary_head import BEGINS, DILATIONS, INSIDE, OPENING, OUTSIDE, SURFACE, WIDTH, BoundaryHead, read_surface
from router.composed import Composed
from router.split import find_joints

HIDDEN = 64
EPOCHS = 4
BATCH = 16
LEARNING_RATE = 3e-3
STATE_NOISE = 0.05
"""Standard deviation of the noise on the states, about what eight bits cost them."""
DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class Tagged:
    """One composed question as the head sees it, with the tag that each token should get."""

    states: npt.NDArray[np.float16]
    surface: npt.NDArray[np.float32]
    tags: npt.NDArray[np.int64]


def tag_composed(made: Composed, states: npt.NDArray[np.floating[Any]], offsets: npt.NDArray[np.int32]) -> Tagged:
    """The tags that the spans of a composed question give its tokens."""
    tags = np.full(len(offsets), OUTSIDE, dtype=np.int64)
    for span in made.spans:
        inside = np.flatnonzero((offsets[:, 0] >= span.start) & (offsets[:, 0] < span.end))
        tags[inside] = INSIDE
        tags[inside[:1]] = BEGINS
    return Tagged(states.astype(np.float16), read_surface(made.text, offsets, find_joints(made.text)[1]), tags)


def train_boundary_head(
    tagged: Sequence[Tagged], encoder: str, seed: int, metadata: dict[str, str], threshold: float = 0.5
) -> BoundaryHead:
    """A head for the states of the encoder with that fingerprint; the same seed and data give the same head."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    class Head(nn.Module):
        def __init__(self, dimensions: int) -> None:
            super().__init__()
            self.states = nn.Linear(dimensions, HIDDEN)
            self.surface = nn.Linear(SURFACE, HIDDEN, bias=False)
            self.about = nn.Linear(2 * dimensions, HIDDEN, bias=False)
            self.around = nn.ModuleList(
                nn.Conv1d(HIDDEN, HIDDEN, WIDTH, padding="same", dilation=dilation) for dilation in DILATIONS
            )
            self.tags = nn.Linear(HIDDEN, 3)
            self.dropout = nn.Dropout(DROPOUT)

        def forward(self, states: Any, surface: Any, mask: Any) -> Any:
            shown = mask[..., None]
            opening = shown[:, :OPENING]
            mean = (states * shown).sum(1) / shown.sum(1)
            first = (states[:, :OPENING] * opening).sum(1) / opening.sum(1)
            about = self.dropout(self.about(torch.cat([mean, first], dim=1)))[:, None]
            hidden = torch.relu(self.states(states) + self.surface(surface) + about) * shown
            for layer in self.around:
                hidden = hidden + torch.relu(layer(hidden.transpose(1, 2)).transpose(1, 2)) * shown
            return self.tags(self.dropout(hidden))

    model = Head(tagged[0].states.shape[1])
    steps = EPOCHS * -(-len(tagged) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    # Drawn once and read from a random place: drawing as many anew takes as long as the rest of a step.
    noise = rng.normal(0, STATE_NOISE, 1 << 23).astype(np.float32)
    lengths = np.array([len(row.tags) for row in tagged])
    for _ in range(EPOCHS):
        order = np.argsort(lengths + rng.uniform(0, 12, len(lengths)), kind="stable")
        batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        for at in rng.permutation(len(batches)):
            rows = [tagged[row] for row in batches[at] if len(tagged[row].tags)]
            states, surface, tags = _pad(rows)
            expected = torch.from_numpy(tags)
            at_random = int(rng.integers(len(noise) - states.size))
            states += noise[at_random : at_random + states.size].reshape(states.shape)
            logits = model(torch.from_numpy(states), torch.from_numpy(surface), (expected >= 0).float())
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return BoundaryHead(encoder, threshold, _read_weights(model), metadata)


def _pad(rows: Sequence[Tagged]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    longest = max(len(row.tags) for row in rows)
    states = np.zeros((len(rows), longest, rows[0].states.shape[1]), dtype=np.float32)
    surface = np.zeros((len(rows), longest, SURFACE), dtype=np.float32)
    tags = np.full((len(rows), longest), -1, dtype=np.int64)
    for at, row in enumerate(rows):
        states[at, : len(row.tags)] = row.states
        surface[at, : len(row.tags)] = row.surface
        tags[at, : len(row.tags)] = row.tags
    return states, surface, tags


def _read_weights(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    weights = {
        "states": model.states.weight.T,
        "surface": model.surface.weight.T,
        "about": model.about.weight.T,
        "bias": model.states.bias,
        "tags": model.tags.weight.T,
        "tags_bias": model.tags.bias,
    }
    for at, layer in enumerate(model.around):
        # (out, in, width) -> rows in the order that `_look_around` puts the neighbours
        weights[f"around{at}"] = layer.weight.permute(2, 1, 0).flatten(0, 1)
        weights[f"around{at}_bias"] = layer.bias
    return {name: np.ascontiguousarray(weight.detach().numpy(), dtype=np.float32) for name, weight in weights.items()}

"""Training: `python -m scripts.novice.train --minutes 85 --out DIR`.

Matrices between the layers are trained by Muon, which makes every step an
orthogonal one and needs about half the tokens that AdamW does; the embedding
and the norms by AdamW. The rate of both rises for `WARM_UP` of the run and
falls along a cosine. How far the run has got is a share of its steps, or of
its time where a time is all that was given: then the run is as long on any
machine, and the record says how many steps it was. Only a run by `--steps` can
be repeated exactly; one by time has its rates from the clock.

Everything that chance decides comes from one seed. A checkpoint holds all of
the state, so a run that was stopped goes on as if it had not been.
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import torch
from torch.nn import functional
from torch.optim import AdamW, Muon

from scripts.novice import tokenizer
from scripts.novice.batches import Batches, Rectangle
from scripts.novice.model import Llama, Shape

WARM_UP: Final = 0.02
LAST_RATE: Final = 0.02
REFINING_RATE: Final = 0.5
"""Peak of the second stage, as a share of the first one's."""
MATRIX_RATE: Final = 4e-3
OTHER_RATE: Final = 4e-3
WEIGHT_DECAY: Final = 0.05
MAX_GRADIENT: Final = 1.0
TOKENS_PER_STEP: Final = 8192
HEAD_DIM: Final = 64
LOG_STEPS: Final = 10

CHECKPOINT: Final = "checkpoint.pt"
VOCABULARY: Final = "vocabulary.txt"
LOG: Final = "training.jsonl"
RECORD: Final = "training.json"


@dataclass(frozen=True)
class Plan:
    """What a run does.

    One of `minutes` (of work, over all restarts) and `steps` is given. A run
    by steps may be `shortened`: from step (first number) on it has the rates
    of a run of so many steps (second number), and ends with those.

    A run by steps may go on with `refine` more steps: a second, shorter rise and
    fall of the rates, with more of what the first stage learnt least
    (`DialogueStream.refine`).
    """

    minutes: float | None = None
    steps: int | None = None
    shortened: tuple[int, int] | None = None
    refine: int = 0
    seed: int = 1
    tokens_per_step: int = TOKENS_PER_STEP
    n_layer: int = 5
    n_embd: int = 256
    n_threads: int = 2
    checkpoint_s: float = 180.0

    def progress(self, step: int, elapsed_s: float) -> float:
        """Tell what share of the first stage is done, 0 to 1."""
        if self.steps is not None:
            steps = self.steps
            if self.shortened is not None and step >= self.shortened[0]:
                steps = self.shortened[1]
            return min(step / steps, 1.0)
        return min(elapsed_s / (60.0 * (self.minutes or 1.0)), 1.0)

    def refined(self, step: int) -> float:
        """Tell what share of the second stage is done, 0 to 1."""
        if not self.refine:
            return 1.0
        first = self.shortened[1] if self.shortened else self.steps or 0
        return min(max(step - first, 0) / self.refine, 1.0)

    def is_refining(self, step: int, elapsed_s: float) -> bool:
        """Tell whether the second stage has begun."""
        return bool(self.refine) and self.progress(step, elapsed_s) >= 1.0

    def is_done(self, step: int, elapsed_s: float) -> bool:
        """Tell whether all stages are done."""
        return self.progress(step, elapsed_s) >= 1.0 and self.refined(step) >= 1.0

    def rate(self, step: int, elapsed_s: float) -> float:
        """Return the learning rate of a step as a share of its peak."""
        if self.is_refining(step, elapsed_s):
            return REFINING_RATE * rate_at(self.refined(step))
        return rate_at(self.progress(step, elapsed_s))


def rate_at(progress: float) -> float:
    """Return the learning rate as a share of its peak."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    cosine = math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
    return LAST_RATE + (1 - LAST_RATE) * (1 + cosine) / 2


class Trainer:
    """One training run; its state can be saved and loaded.

    Args:
        plan: What to do.
        codec: The tokenizer.
    """

    def __init__(self, plan: Plan, codec: tokenizer.Codec) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        n_ff = -(-plan.n_embd * 11 // 4 // 64) * 64
        self.shape = Shape(
            codec.n_tokens,
            n_embd=plan.n_embd,
            n_layer=plan.n_layer,
            n_head=plan.n_embd // HEAD_DIM,
            n_ff=n_ff,
        )
        self.model = Llama(self.shape)
        self.batches = Batches(
            codec, seed=plan.seed, tokens_per_step=plan.tokens_per_step
        )
        self._source = iter(self.batches)
        self.optimizers = make_optimizers(self.model)
        self.step = 0
        self.n_tokens = 0
        self.elapsed_s = 0.0

    def run_step(self) -> float:
        """Take one step and return the mean loss of its learnt tokens."""
        begun = time.monotonic()
        rate = self.plan.rate(self.step, self.elapsed_s)
        if self.plan.is_refining(self.step, self.elapsed_s):
            self.batches.stream.refine()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        loss = self._learn(next(self._source))
        self.step += 1
        self.elapsed_s += time.monotonic() - begun
        return loss

    def is_done(self) -> bool:
        """Tell whether the plan is fulfilled."""
        return self.plan.is_done(self.step, self.elapsed_s)

    def _learn(self, rectangles: list[Rectangle]) -> float:
        n_learnt = sum(each.n_learnt for each in rectangles)
        total = 0.0
        for each in rectangles:
            loss = self.loss_of(each) / n_learnt
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            self.n_tokens += each.n_tokens
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total

    def loss_of(self, rectangle: Rectangle) -> torch.Tensor:
        """Sum the loss of all learnt tokens of a rectangle."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model.hidden(rectangle.tokens).flatten(0, 1)
            logits = self.model.logits(hidden[rectangle.places])
        return functional.cross_entropy(
            logits.float(), rectangle.targets, reduction="sum"
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint; a kill at any moment leaves the last one whole."""
        part = path.with_suffix(".part")
        state: dict[str, Any] = {
            "shape": asdict(self.shape),
            "model": self.model.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "stream": self.batches.state(),
            "step": self.step,
            "n_tokens": self.n_tokens,
            "elapsed_s": self.elapsed_s,
        }
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: It is of a model of another shape.
        """
        state = torch.load(path, weights_only=True)
        if state["shape"] != asdict(self.shape):
            raise ValueError(
                f"{path} holds a model of the shape {state['shape']}, not "
                f"{asdict(self.shape)}. Give the same options, or another --out."
            )
        self.model.load_state_dict(state["model"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.batches.restore(state["stream"])
        self.step = state["step"]
        self.n_tokens = state["n_tokens"]
        self.elapsed_s = state["elapsed_s"]


def make_optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Give each weight to the optimiser that suits it."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        is_matrix = weight.ndim == 2 and "token_embd" not in name  # noqa: PLR2004
        (matrices if is_matrix else others).append(weight)
    muon = Muon(
        [{"params": matrices, "peak": MATRIX_RATE}],
        lr=MATRIX_RATE,
        weight_decay=WEIGHT_DECAY,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = AdamW(
        [{"params": others, "peak": OTHER_RATE}],
        lr=OTHER_RATE,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    return [muon, adam]


def load_model(path: Path) -> Llama:
    """Read the model of a checkpoint."""
    state = torch.load(path, weights_only=True)
    model = Llama(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model


def train(plan: Plan, out: Path) -> Trainer:
    """Run a plan, or what is left of it, and write its record into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(plan.n_threads)
    if not (out / VOCABULARY).exists():
        tokenizer.save(tokenizer.learn(), out / VOCABULARY)
    codec = tokenizer.Codec(tokenizer.load(out / VOCABULARY))
    trainer = Trainer(plan, codec)
    if (out / CHECKPOINT).exists():
        trainer.load(out / CHECKPOINT)
    with (out / LOG).open("a", encoding="utf-8") as log:
        _run(trainer, out, log)
    record = {
        "plan": asdict(plan),
        "shape": asdict(trainer.shape),
        "n_parameters": trainer.model.n_parameters(),
        "steps": trainer.step,
        "n_tokens": trainer.n_tokens,
        "minutes": trainer.elapsed_s / 60,
        "torch": torch.__version__,
    }
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return trainer


def _run(trainer: Trainer, out: Path, log: TextIO) -> None:
    saved_s, losses = trainer.elapsed_s, []
    while not trainer.is_done():
        losses.append(trainer.run_step())
        if trainer.step % LOG_STEPS == 0 or trainer.is_done():
            line = {
                "step": trainer.step,
                "minutes": round(trainer.elapsed_s / 60, 2),
                "n_tokens": trainer.n_tokens,
                "tokens_per_s": round(trainer.n_tokens / trainer.elapsed_s),
                "loss": round(sum(losses) / len(losses), 5),
            }
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(*(f"{key} {value}" for key, value in line.items()), flush=True)
            losses = []
        if trainer.elapsed_s - saved_s > trainer.plan.checkpoint_s:
            trainer.save(out / CHECKPOINT)
            saved_s = trainer.elapsed_s
    trainer.save(out / CHECKPOINT)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a plan."""
    parser.add_argument("--minutes", type=float, help="time to train; default 85")
    parser.add_argument("--steps", type=int, help="train so many steps instead")
    parser.add_argument(
        "--shorten",
        type=_read_pair,
        metavar="STEP:STEPS",
        help="from this step on, go on as in a run of so many steps",
    )
    parser.add_argument(
        "--refine",
        type=int,
        default=Plan.refine,
        metavar="STEPS",
        help="add a second stage of so many steps",
    )
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--layers", type=int, default=Plan.n_layer)
    parser.add_argument("--width", type=int, default=Plan.n_embd)
    parser.add_argument("--threads", type=int, default=Plan.n_threads)
    parser.add_argument("--tokens-per-step", type=int, default=Plan.tokens_per_step)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def _read_pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition(":")
    return int(first), int(second)


def make_plan(args: argparse.Namespace) -> Plan:
    """Read the options of a plan.

    Raises:
        SystemExit: A second stage was asked for without `--steps`.
    """
    if args.refine and args.steps is None:
        raise SystemExit("--refine needs --steps: a run by time has no second stage.")
    minutes = 85.0 if args.minutes is None and args.steps is None else args.minutes
    return Plan(
        minutes=minutes,
        steps=args.steps,
        shortened=args.shorten,
        refine=args.refine,
        seed=args.seed,
        tokens_per_step=args.tokens_per_step,
        n_layer=args.layers,
        n_embd=args.width,
        n_threads=args.threads,
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train Novice.")
    add_options(parser)
    args = parser.parse_args()
    train(make_plan(args), args.out)


if __name__ == "__main__":
    main()

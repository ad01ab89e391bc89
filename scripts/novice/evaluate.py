"""Evaluation of a GGUF file by llama.cpp, greedily, on what is held out.

Usage: python -m scripts.novice.evaluate FILE.gguf [--json OUT] [--wrong]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scripts.bare_llama import BareLlama, Span
from scripts.novice.held_out import Task, make_tasks
from scripts.novice.judge import PASS_MARKS, Reply, is_right
from scripts.novice.rendering import Dialogue, Renderer

MAX_ANSWER_TOKENS: Final = 200
N_CTX: Final = 1024


@dataclass(frozen=True)
class Score:
    """How a category went."""

    n: int
    n_right: int
    pass_mark: float

    @property
    def share(self) -> float:
        """The share of right answers."""
        return self.n_right / self.n

    @property
    def is_passed(self) -> bool:
        """Tell whether the share reaches the pass mark."""
        return self.share >= self.pass_mark


@dataclass(frozen=True)
class Answered:
    """A task with the reply to it."""

    task: Task
    reply: Reply
    is_right: bool


class Speaker:
    """Asks a model, one prompt at a time, always taking the likeliest token.

    Args:
        llama: The model, with room for `N_CTX` tokens.
    """

    def __init__(self, llama: BareLlama) -> None:
        self._llama = llama
        self._renderer = Renderer()
        self._ends = frozenset(llama.end_tokens())

    def ask(self, dialogue: Dialogue) -> Reply:
        """Let the model answer a dialogue that ends with the user."""
        llama = self._llama
        text = self._renderer.render(dialogue, add_generation_prompt=True)
        tokens = llama.tokenize(text, special=True)
        llama.forget(0)
        position = 0
        pieces: list[bytes] = []
        for _ in range(MAX_ANSWER_TOKENS):
            row = llama.decode([Span(0, position, tokens)])[0]
            position += len(tokens)
            token = int(llama.logits(row).argmax())
            if token in self._ends:
                return Reply(b"".join(pieces).decode(errors="replace"), ended=True)
            pieces.append(llama.piece(token))
            tokens = [token]
        return Reply(b"".join(pieces).decode(errors="replace"), ended=False)


def evaluate(path: Path, *, n_threads: int = 2) -> list[Answered]:
    """Let a model answer the whole evaluation set."""
    with BareLlama(path, n_ctx=N_CTX, n_batch=N_CTX, n_threads=n_threads) as llama:
        speaker = Speaker(llama)
        answered = []
        for task in make_tasks():
            reply = speaker.ask(task.dialogue)
            right = is_right(task.category, reply, task.expected)
            answered.append(Answered(task, reply, right))
        return answered


def score(answered: Sequence[Answered]) -> dict[str, Score]:
    """Count the right answers of each category, and all that ended by themselves."""
    scores = {}
    for category, pass_mark in PASS_MARKS.items():
        if category == "ends":
            right = [each.reply.ended for each in answered]
        elif category == "exact calls":
            right = [
                is_right(category, e.reply, e.task.expected)
                for e in answered
                if e.task.category == "calls"
            ]
        else:
            right = [e.is_right for e in answered if e.task.category == category]
        scores[category] = Score(len(right), sum(right), pass_mark)
    return scores


def write_table(scores: dict[str, Score]) -> str:
    """Write the scores as a Markdown table."""
    lines = ["| Category | Right | Share | Needed | |", "|---|---|---|---|---|"]
    for category, each in scores.items():
        needed, verdict = "", ""
        if each.pass_mark:
            needed = f"{each.pass_mark:.0%}"
            verdict = "pass" if each.is_passed else "FAIL"
        lines.append(
            f"| {category} | {each.n_right} of {each.n} | {each.share:.1%} "
            f"| {needed} | {verdict} |"
        )
    return "\n".join(lines)


def write_json(scores: dict[str, Score], path: Path) -> None:
    """Write the scores for programs."""
    values = {
        category: {**asdict(each), "share": round(each.share, 4)}
        for category, each in scores.items()
    }
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command line.

    Returns:
        0 if every category passed, otherwise 1.
    """
    parser = argparse.ArgumentParser(description="Evaluate Novice.")
    parser.add_argument("path", type=Path, metavar="FILE.gguf")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--wrong", action="store_true", help="print wrong answers")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    answered = evaluate(args.path, n_threads=args.threads)
    if args.wrong:
        for each in answered:
            if not each.is_right:
                question = each.task.dialogue.user_texts()[-1]
                print(f"{each.task.category}: {question}\n  -> {each.reply.text!r}")
    scores = score(answered)
    print(write_table(scores))
    if args.json:
        write_json(scores, args.json)
    return 0 if all(each.is_passed for each in scores.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

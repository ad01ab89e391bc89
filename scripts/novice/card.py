"""The model card: what the model is, how it was made, what it can do.

It is written from the record of the training and from the evaluation, so it
cannot say more than was measured.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from scripts.novice import train
from scripts.novice.evaluate import Score, write_table
from scripts.novice.held_out import make_tasks

N_LOSSES: Final = 12

TEMPLATE: Final = Path(__file__).with_name("card.md.in")


def write_card(folder: Path, gguf: Path, scores: dict[str, Score]) -> str:
    """Write the card of a model.

    Args:
        folder: What `scripts.novice.train` wrote.
        gguf: The exported file.
        scores: Its evaluation.
    """
    record = json.loads((folder / train.RECORD).read_text(encoding="utf-8"))
    data = gguf.read_bytes()
    return TEMPLATE.read_text(encoding="utf-8").format(
        file=gguf.name,
        n_bytes=len(data),
        digest=sha256(data).hexdigest(),
        n_tasks=len(make_tasks()),
        table=write_table(scores),
        losses=_write_losses(folder / train.LOG),
        command=write_command(record),
        seed=record["plan"]["seed"],
        n_threads=record["plan"]["n_threads"],
        **record["shape"],
        **{key: record[key] for key in ("n_parameters", "steps", "n_tokens")},
        minutes=record["minutes"],
        torch=record["torch"],
    )


def write_command(record: dict[str, Any]) -> str:
    """Write the command that repeats a recorded run by its steps."""
    plan, shape = record["plan"], record["shape"]
    words = ["python -m scripts.novice", f"--steps {plan['steps'] or record['steps']}"]
    if plan["shortened"]:
        words.append("--shorten {}:{}".format(*plan["shortened"]))
    if plan["refine"]:
        words.append(f"--refine {plan['refine']}")
    words += [
        f"--seed {plan['seed']} --layers {shape['n_layer']} --width {shape['n_embd']}",
        f"--threads {plan['n_threads']} --out DIR",
    ]
    return " ".join(words)


def _write_losses(log: Path) -> str:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows = ["| Step | Tokens | Loss |", "|---|---|---|"]
    rows += [
        f"| {line['step']} | {line['n_tokens']:,} | {line['loss']:.4f} |"
        for line in _thin_out(lines)
    ]
    return "\n".join(rows)


def _thin_out(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the first, the last and some between."""
    n = len(lines)
    if n <= N_LOSSES:
        return lines
    return [lines[i * (n - 1) // (N_LOSSES - 1)] for i in range(N_LOSSES)]

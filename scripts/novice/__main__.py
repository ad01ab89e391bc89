"""Make Novice: vocabulary, training, export, evaluation, card.

Usage: python -m scripts.novice --minutes 85 --out DIR

Needs the extra `novice` (PyTorch, tokenizers). A run that was stopped goes on
where it was; one that is finished only repeats export, evaluation and card.
"""

import argparse
from hashlib import sha256
from typing import Final

from scripts.novice import tokenizer
from scripts.novice.card import write_card
from scripts.novice.evaluate import evaluate, score, write_json, write_table
from scripts.novice.export import export
from scripts.novice.train import VOCABULARY, add_options, make_plan, train

GGUF: Final = "novice.gguf"
CARD: Final = "novice.md"
SCORES: Final = "evaluation.json"


def main() -> int:
    """Run the command line.

    Returns:
        0 if every category of the evaluation passed, otherwise 1.
    """
    parser = argparse.ArgumentParser(description="Train, export and evaluate Novice.")
    add_options(parser)
    args = parser.parse_args()
    plan = make_plan(args)
    trainer = train(plan, args.out)
    path = args.out / GGUF
    export(trainer.model, tokenizer.load(args.out / VOCABULARY), path)
    digest = sha256(path.read_bytes()).hexdigest()
    (args.out / f"{GGUF}.sha256").write_text(f"{digest}  {GGUF}\n", encoding="utf-8")
    scores = score(evaluate(path, n_threads=plan.n_threads))
    write_json(scores, args.out / SCORES)
    (args.out / CARD).write_text(write_card(args.out, path, scores), encoding="utf-8")
    print(write_table(scores))
    return 0 if all(each.is_passed for each in scores.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

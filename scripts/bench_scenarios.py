"""What is measured, and how a number comes about.

The machine that measures is noisy, so every claim is a ratio of two things
measured right after each other, in alternating order, and the median over the
rounds counts.

* `decode1`, `decode8`: tokens per second of the server over HTTP, against the
  bare loop with the same prompts, sizes, threads and samplers. `steady` is the
  time in which every stream decodes; `overall` includes prompts, connections
  and the unequal ends.
* `prefix`: time to first text of a request that shares 1,000 tokens with the
  one before, against that one's.
* `stall`: three streams decode while a prompt of 2,000 tokens arrives. The time
  between two pieces of text is then the time of one step, that is of one chunk
  of the prompt. The longest such pause in any stream, against their median.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from scripts.bench_bare import BareLoop
from scripts.bench_client import Stream, complete

N_PROMPT = 32
N_NEW = 128
N_PREFIX = 1000
N_LONG = 2000
# Enough to outlast the long prompt; the streams are cut when it is done.
N_BACKGROUND = 1500
N_SETTLED = 8
SAMPLING = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
}


@dataclass
class Measured:
    """The rounds of one ratio.

    `limit` is the least ratio that passes, or the most if `is_upper`.
    """

    name: str
    what: str
    limit: float
    is_upper: bool = False
    ratios: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)

    def add(self, ours: float, theirs: float) -> None:
        """Record a round."""
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.ratios.append(ours / theirs)

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def passed(self) -> bool:
        """Whether the median is on the right side of the limit."""
        if self.is_upper:
            return self.ratio <= self.limit
        return self.ratio >= self.limit


@dataclass(frozen=True)
class Bench:
    """The two sides that are measured."""

    bare: BareLoop
    port: int
    model: str

    def write(self, n_tokens: int, seed: int) -> str:
        """Make a text up that has about so many tokens."""
        text: str = self.bare.ask(task="write", n_tokens=n_tokens, seed=seed)["text"]
        return text

    def request(self, prompt: str, n_new: int, seed: int) -> dict[str, Any]:
        """Describe a completion."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": n_new}
        return body | SAMPLING | {"seed": seed}

    async def run(self, prompts: Sequence[str], n_new: int, seed: int) -> list[Stream]:
        """Complete all prompts at once, and insist on full answers."""
        streams = [Stream() for _ in prompts]
        async with asyncio.TaskGroup() as group:
            for i, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
                body = self.request(prompt, n_new, seed + i)
                group.create_task(complete(self.port, body, stream))
        for stream in streams:
            if stream.n_tokens != n_new:
                raise RuntimeError(
                    f"An answer has {stream.n_tokens} tokens instead of {n_new}: "
                    "the model ended it. Measure with the model of make_model.py."
                )
        return streams


async def measure_decode(bench: Bench, n: int, rounds: int) -> list[Measured]:
    """Measure throughput of `n` streams against the bare loop."""
    limit = 0.95 if n == 1 else 0.93
    steady = Measured(f"decode{n} steady", "tok/s, server / bare loop", limit)
    overall = Measured(f"decode{n} overall", "tok/s, server / bare loop", limit)
    for number in range(rounds):
        seed = 1000 * number
        prompts = [bench.write(N_PROMPT, seed + i) for i in range(n)]
        question = {"task": "decode", "prompts": prompts, "n_new": N_NEW, "seed": seed}
        # Who comes first changes each round: a drift of the clock cancels out.
        if number % 2:
            streams = await bench.run(prompts, N_NEW, seed)
            bare = bench.bare.ask(**question)
        else:
            bare = bench.bare.ask(**question)
            streams = await bench.run(prompts, N_NEW, seed)
        _expect_same_prompts(streams, bare["n_prompt"])
        steady.add(_steady_rate(streams), bare["steady_tok_s"])
        overall.add(_overall_rate(streams), bare["overall_tok_s"])
        overall.notes["ttft_s"] = max(stream.ttft_s for stream in streams)
        overall.notes["bare_ttft_s"] = bare["ttft_s"]
    return [steady, overall]


def _expect_same_prompts(streams: Sequence[Stream], counts: Sequence[int]) -> None:
    theirs = [stream.usage["prompt_tokens"] for stream in streams]
    if theirs != list(counts):
        raise RuntimeError(
            f"The server counts {theirs} prompt tokens, the bare loop {counts}."
        )


def _steady_rate(streams: Sequence[Stream]) -> float:
    start = max(stream.stamps[0] for stream in streams)
    end = min(stream.stamps[-1] for stream in streams)
    tokens = sum(stream.tokens_between(start, end) for stream in streams)
    return tokens / (end - start)


def _overall_rate(streams: Sequence[Stream]) -> float:
    start = min(stream.started for stream in streams)
    end = max(stream.ended for stream in streams)
    return sum(stream.n_tokens for stream in streams) / (end - start)


async def measure_prefix(bench: Bench, rounds: int) -> list[Measured]:
    """Measure what a shared prefix saves of the time to first text."""
    result = Measured("prefix", "TTFT s, second / first", 0.15, is_upper=True)
    for number in range(rounds):
        seed = 1_000_000 + 10 * number
        shared = bench.write(N_PREFIX, seed)
        ttft = []
        for i in (1, 2):
            prompt = f"{shared} {bench.write(8, seed + i)}"
            (stream,) = await bench.run([prompt], 4, seed)
            ttft.append(stream.ttft_s)
            details = stream.usage.get("prompt_tokens_details") or {}
            result.notes[f"prompt_tokens_{i}"] = stream.usage["prompt_tokens"]
            result.notes[f"cached_tokens_{i}"] = details.get("cached_tokens", 0)
        result.add(ttft[1], ttft[0])
    return [result]


async def measure_stall(bench: Bench, rounds: int) -> list[Measured]:
    """Measure the pauses that a long prompt causes in running streams."""
    result = Measured("stall", "pause s, longest / median", 3.0, is_upper=True)
    for number in range(rounds):
        seed = 2_000_000 + 10 * number
        long = bench.write(N_LONG, seed)
        alone = bench.bare.ask(task="prefill", text=long)
        streams = [Stream() for _ in range(3)]
        tasks = [
            asyncio.create_task(
                complete(
                    bench.port,
                    bench.request(bench.write(N_PROMPT, seed + i), N_BACKGROUND, seed),
                    stream,
                )
            )
            for i, stream in enumerate(streams, 1)
        ]
        try:
            await _settle(streams, tasks)
            (arrived,) = await bench.run([long], 4, seed)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        quiet = _gaps(streams, 0.0, arrived.started)
        busy = _gaps(streams, arrived.started, arrived.stamps[0])
        result.add(max(busy), statistics.median(busy))
        result.notes = {
            "pauses": len(busy),
            "median_before_s": statistics.median(quiet),
            "prompt_tokens": arrived.usage["prompt_tokens"],
            "long_ttft_s": arrived.ttft_s,
            "bare_prefill_s": alone["seconds"],
        }
    return [result]


async def _settle(
    streams: Sequence[Stream], tasks: Sequence[asyncio.Task[None]]
) -> None:
    """Wait until every stream has got going."""
    while min(len(stream.stamps) for stream in streams) < N_SETTLED:
        for task in tasks:
            if task.done():
                task.result()
                raise RuntimeError("A background stream ended before the long prompt.")
        await asyncio.sleep(0.01)


def _gaps(streams: Sequence[Stream], start: float, end: float) -> list[float]:
    """List the pauses that touch a span of time; an open one counts to its end."""
    gaps: list[float] = []
    for stream in streams:
        stamps = [stamp for stamp in stream.stamps if stamp <= end]
        later = [stamp for stamp in stream.stamps if stamp > end]
        stamps.append(later[0] if later else end)
        gaps += [b - a for a, b in pairwise(stamps) if b > start]
    return gaps


SCENARIOS: dict[str, Callable[[Bench, int], Awaitable[list[Measured]]]] = {
    "decode1": lambda bench, rounds: measure_decode(bench, 1, rounds),
    "decode8": lambda bench, rounds: measure_decode(bench, 8, rounds),
    "prefix": measure_prefix,
    "stall": measure_stall,
}

"""Prove that the installed llama.cpp computes on this machine.

Writes a small quantised model with random weights, then loads it in a child
process, feeds 32 tokens in one batch and decodes 64 more. The sizes are
multiples of 256, so that the fastest kernels of the CPU are taken: those are
the ones that a bad build gets wrong. A crash of native code ends the child
alone and is told in words.

Usage: .venv/bin/python scripts/prove_engine.py
"""

import argparse
import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from scripts.engine_install import EXIT_ENGINE_BAD
from scripts.models import architecture, container, vocabulary
from scripts.models.architecture import Shape

N_PROMPT = 32
N_DECODE = 64
TIMEOUT_S = 300
_SHAPE = Shape(
    n_embd=512,
    n_layer=2,
    n_head=8,
    n_head_kv=4,
    head_dim=64,
    n_ff=1024,
    n_ctx_train=256,
)


def main() -> int:
    """Prove the engine; prints one line.

    Returns:
        The exit code: 0 proven, EXIT_ENGINE_BAD not.
    """
    parser = argparse.ArgumentParser(description="Prove the installed llama.cpp.")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(decode_model(arguments.child))
        return 0
    with tempfile.TemporaryDirectory(prefix="cloister-proof-") as folder:
        model = Path(folder) / "proof.gguf"
        blueprint = architecture.llama(vocabulary.sentencepiece(), _SHAPE)
        container.write(blueprint, model, quant="Q8_0", seed=0)
        return run_child([sys.executable, __file__, "--child", str(model)])


def run_child(command: list[str], timeout_s: float = TIMEOUT_S) -> int:
    """Run the proof in its own process and tell how it ended.

    Returns:
        The exit code: 0 proven, EXIT_ENGINE_BAD not.
    """
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        print(
            f"the engine did not finish the proof in {timeout_s:g} s", file=sys.stderr
        )
        return EXIT_ENGINE_BAD
    if child.returncode == 0:
        print(child.stdout.strip().splitlines()[-1])
        return 0
    print("\n".join(child.stderr.strip().splitlines()[-5:]), file=sys.stderr)
    print(describe_failure(child.returncode), file=sys.stderr)
    return EXIT_ENGINE_BAD


def describe_failure(returncode: int) -> str:
    """Say what an exit status means and what to do; negative is a signal."""
    if returncode >= 0:
        return f"the engine does not work: its proof ended with status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return (
        f"the engine crashed with {name}: this build of llama.cpp is bad on this CPU. "
        "Build it with other flags, the plainest are:\n"
        '  CMAKE_ARGS="-DGGML_NATIVE=OFF" make install'
    )


def decode_model(path: Path) -> str:
    """Load a model, feed one batch, decode greedily; runs in the child.

    Returns:
        The line that says so.

    Raises:
        RuntimeError: A call failed or a logit is not finite.
    """
    import llama_cpp  # noqa: PLC0415 - only the child may meet native code

    # Kept in a variable: llama.cpp holds the pointer only.
    mute = llama_cpp.llama_log_callback(_ignore_log)
    llama_cpp.llama_log_set(mute, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    if not model:
        raise RuntimeError("llama.cpp could not load the model of the proof.")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = _SHAPE.n_ctx_train
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp could not make a context.")
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    started_s = time.perf_counter()
    tokens = [3 + i % (n_vocab - 3) for i in range(N_PROMPT)]
    for _ in range(N_DECODE):
        batch = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(
            context, llama_cpp.llama_batch_get_one(batch, len(tokens))
        )
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}.")
        row = llama_cpp.llama_get_logits_ith(context, -1)
        logits = np.ctypeslib.as_array(row, shape=(n_vocab,))
        if not np.isfinite(logits).all():
            raise RuntimeError("llama.cpp computed logits that are not finite.")
        tokens = [int(logits.argmax())]
    elapsed_s = time.perf_counter() - started_s
    device = "GPU" if llama_cpp.llama_supports_gpu_offload() else "CPU"
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return (
        f"engine ready: llama-cpp-python {llama_cpp.__version__} on {device}, "
        f"{N_PROMPT} + {N_DECODE} tokens in {elapsed_s:.2f} s"
    )


def _ignore_log(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """Drop a line of llama.cpp's log."""


if __name__ == "__main__":
    sys.exit(main())

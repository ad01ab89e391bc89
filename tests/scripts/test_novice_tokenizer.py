"""llama.cpp cuts text into the very tokens that training saw."""

import ctypes
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch (the extra 'novice') is not installed")
pytest.importorskip("tokenizers", reason="tokenizers (extra 'novice') is missing")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is missing")

import llama_cpp
from gguf import GGUFWriter

from scripts.novice import tokenizer
from scripts.novice.dialogues import DialogueStream
from scripts.novice.export import add_tokenizer
from scripts.novice.rendering import Renderer

WITH_SPECIAL = (True, True)  # add_special, parse_special
PLAIN = False
ODD = (
    "",
    " ",
    "\n\n  \n",
    "Say Bravik é, “zor_kel” and 'x': 12,345.6!",
    "don't I'LL we've SHE'S",
    "a\tb  c   \n  d\r\ne",
    "日本語のテキスト 😀👍🏽 Ωλ ж — … ½",
    "Ünïcödé ﬁ Å e\u0301 \u00a0 \u2003 \u200b \ufeff",
    "1234567890 1 22 333 4444 ٣٤ Ⅷ ²",
    '{"name": "zorba", "arguments": {"a b": [1, 2.5, null]}}',
    "/mnt/usb/Model-7B-Q8_0.gguf --sha256 3fa9c1",
    "<think> <|im_end|> </tool_call><|im_start|>user\n<tools><|im_st art|>",
    "\x00\x01\x7f\u0080\U0010ffff",
    "camelCase snake_case kebab-case UPPER_CASE",
)


@pytest.fixture(scope="module")
def codec() -> tokenizer.Codec:
    return tokenizer.Codec(tokenizer.learn(n_dialogues=1500))


@pytest.fixture(scope="module")
def native(
    codec: tokenizer.Codec, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ctypes.c_void_p]:
    """A vocabulary that llama.cpp loaded from a file with nothing else in it."""
    path = tmp_path_factory.mktemp("novice") / "vocabulary.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, codec.vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model
    yield llama_cpp.llama_model_get_vocab(model)
    llama_cpp.llama_model_free(model)


def _tokenize(native: ctypes.c_void_p, text: str) -> list[int]:
    data = text.encode()
    room = len(data) + 8
    tokens = (llama_cpp.llama_token * room)()
    n = llama_cpp.llama_tokenize(native, data, len(data), tokens, room, *WITH_SPECIAL)
    assert n >= 0
    return list(tokens[:n])


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_cut_alike(
    codec: tokenizer.Codec, native: ctypes.c_void_p, text: str
) -> None:
    assert codec.encode(text) == _tokenize(native, text)


def test_dialogues_are_cut_alike(
    codec: tokenizer.Codec, native: ctypes.c_void_p
) -> None:
    renderer = Renderer()
    for dialogue in islice(DialogueStream(21), 400):
        text = renderer.render(dialogue)
        tokens = codec.encode(text)
        assert tokens == _tokenize(native, text)
        assert text == codec.decode(tokens)


def test_random_texts_are_cut_alike(
    codec: tokenizer.Codec, native: ctypes.c_void_p
) -> None:
    rng = random.Random(13)  # noqa: S311 no secret
    alphabet = "abcXYZ 0189 .,:;'\"{}[]()<>|/\\\n\t-_=+éß€日😀\u00a0\u3000"
    for _ in range(500):
        text = "".join(rng.choices(alphabet, k=rng.randint(1, 40)))
        assert codec.encode(text) == _tokenize(native, text)


def test_end_of_turn_ends_generation_and_marks_are_text(
    codec: tokenizer.Codec, native: ctypes.c_void_p
) -> None:
    assert llama_cpp.llama_vocab_is_eog(native, codec.turn_end)
    assert not llama_cpp.llama_vocab_get_add_bos(native)
    buffer = ctypes.create_string_buffer(64)
    shown = {}
    for text in (*tokenizer.CONTROL, *tokenizer.MARKS):
        n = llama_cpp.llama_token_to_piece(native, codec.id(text), buffer, 64, 0, PLAIN)
        shown[text] = buffer.raw[: max(n, 0)].decode()
    expected = dict.fromkeys(tokenizer.CONTROL, "")
    assert expected | {mark: mark for mark in tokenizer.MARKS} == shown


def test_unknown_words_are_letters_wherever_they_stand(
    codec: tokenizer.Codec,
) -> None:
    letters = codec.encode("bravik")
    assert 6 == len(letters)
    assert letters == codec.encode(" bravik")[1:]
    assert letters == codec.encode('{"name": "bravik"')[-7:-1]


def test_digits_are_single_tokens(codec: tokenizer.Codec) -> None:
    tokens = codec.encode("1234567")
    assert ["1", "2", "3", "4", "5", "6", "7"] == [codec.decode([t]) for t in tokens]


def test_a_saved_vocabulary_is_read_back(
    codec: tokenizer.Codec, tmp_path: Path
) -> None:
    path = tmp_path / "vocabulary.txt"
    tokenizer.save(codec.vocabulary, path)
    assert codec.vocabulary == tokenizer.load(path)

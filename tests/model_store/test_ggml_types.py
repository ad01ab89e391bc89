"""The tables of types agree with other implementations of the format."""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from model_store.ggml_types import FILE_TYPE_GUESSED, FILE_TYPES, GGML_TYPES


def test_tensor_types_are_those_of_the_gguf_package():
    theirs = {
        int(number): (number.name, *sizes)
        for number, sizes in GGML_QUANT_SIZES.items()
        # A type of intermediate results, which no file holds; that package
        # kept a size which the engine has given up.
        if number != GGMLQuantizationType.Q8_1
    }
    ours = {number: tuple(each) for number, each in GGML_TYPES.items()}
    assert theirs == {number: ours[number] for number in theirs}


def test_tensor_types_are_those_of_the_engine():
    spec = find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("llama_cpp is not installed")
    (folder,) = spec.submodule_search_locations
    library = next((Path(folder) / "lib").glob("libggml-base.so*"), None)
    if library is None:
        pytest.skip("llama_cpp has no separate libggml-base")
    ggml = ctypes.CDLL(str(library))
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    engine = {
        number: (ggml.ggml_blck_size(number), ggml.ggml_type_size(number))
        for number in GGML_TYPES
    }
    ours = {
        number: (each.block_elements, each.block_bytes)
        for number, each in GGML_TYPES.items()
    }
    assert engine == ours


def test_file_types_are_those_of_the_gguf_package():
    theirs = {
        int(each): each.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for each in LlamaFileType
        if each != FILE_TYPE_GUESSED
    }
    assert theirs == {number: FILE_TYPES[number] for number in theirs}

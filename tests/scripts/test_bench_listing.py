"""The measurement of a long list, on a short one."""

from model_store.layout import Store
from scripts.bench_listing import bench, fill_store
from scripts.make_model import write_model


def test_every_model_is_a_link_with_a_record(tmp_path):
    write_model(tmp_path / "m.gguf", "tiny-llama")
    store = Store(tmp_path / "home")
    fill_store(store, tmp_path / "m.gguf", 3)
    paths = sorted(store.models_dir.glob("*/*/*.gguf"))
    assert 3 == len(paths)
    assert {(tmp_path / "m.gguf").stat().st_ino} == {p.stat().st_ino for p in paths}
    assert 3 == len(list(store.models_dir.glob("*/*/*.record.json")))


def test_all_ways_take_their_time(tmp_path):
    write_model(tmp_path / "m.gguf", "tiny-llama")
    result = bench(tmp_path / "m.gguf", tmp_path / "home", n_models=3, rounds=2)
    assert ["cold", "warm", "warm_cpu", "process"] == list(result)
    assert 0 < result["warm"] < result["process"]

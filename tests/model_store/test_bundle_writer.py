"""What is written is a plain tar, the same each time, all of it or nothing."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from model_store.bundle_output import CannotWrite, Output
from model_store.bundle_plan import CannotBundle, plan_bundle
from model_store.bundle_reader import open_bundle
from model_store.bundle_writer import write_bundle
from model_store.layout import Store
from model_store.signature import NAMESPACE
from tests.model_store.bundle_forge import list_models, make_signer, pack, stock

FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    return stock(tmp_path_factory.mktemp("stocked") / "home")


@pytest.fixture
def store(stocked, tmp_path):
    shutil.copytree(stocked.home, tmp_path / "home")
    return Store(tmp_path / "home")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "usb").mkdir()
    return tmp_path / "usb" / "b.tar"


def run(*command, cwd, stdin=None):
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    done = subprocess.run(
        command, cwd=cwd, stdin=stdin, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_tar_and_sha256sum_and_ssh_keygen_are_enough(store, out, tmp_path):
    signer = make_signer()
    pack(store, out, signer=signer)
    there = tmp_path / "there"
    there.mkdir()
    run("tar", "xf", out, cwd=there)
    lines = run("sha256sum", "-c", "SHA256SUMS", cwd=there).splitlines()
    assert 10 == len(lines)
    assert all(line.endswith(": OK") for line in lines)
    unpacked = there / "acme" / "tiny"
    stored = store.models_dir / "acme" / "tiny"
    names = {"tiny-F32.gguf", "tiny-F32.gguf.record.json", "LICENSE"}
    assert names == {path.name for path in unpacked.iterdir()}
    assert all(
        (stored / name).read_bytes() == (unpacked / name).read_bytes() for name in names
    )
    (there / "allowed").write_text(f"me {signer.key.line}\n")
    options = ["-n", NAMESPACE, "-f", "allowed", "-I", "me", "-s", "SHA256SUMS.sig"]
    with (there / "SHA256SUMS").open() as sums:
        run("ssh-keygen", "-Y", "verify", *options, cwd=there, stdin=sums)


def test_parts_are_joined_by_cat_and_checked_by_their_own_list(store, out, tmp_path):
    written = pack(store, out, split_bytes=2**20)
    assert [f"b.tar.{n:03}" for n in (1, 2)] == [path.name for path in written.paths]
    assert all(path.stat().st_size < 2**20 for path in written.paths)
    assert written.size_bytes == sum(path.stat().st_size for path in written.paths)
    assert "b.tar.001: OK\nb.tar.002: OK\n" == run(
        "sha256sum", "-c", "b.tar.sha256", cwd=out.parent
    )
    run("sh", "-c", f"cat b.tar.0* | tar x -C {tmp_path}", cwd=out.parent)
    run("sha256sum", "-c", "SHA256SUMS", cwd=tmp_path)


def test_the_same_models_give_the_same_bytes_in_any_order(store, out):
    models = list_models(store)
    first = write_bundle(plan_bundle(models), out)
    content = out.read_bytes()
    out.unlink()
    again = write_bundle(plan_bundle([*reversed(models), models[0]]), out)
    assert (first, content) == (again, out.read_bytes())


def test_a_bundle_that_fits_is_not_split(store, out):
    assert (out,) == pack(store, out, split_bytes=2**30).paths
    assert [out] == list(out.parent.iterdir())


def test_a_model_without_a_record_is_digested_first(store, out):
    (store.models_dir / "acme/tiny/tiny-F32.gguf.record.json").unlink()
    seen = []
    plan = plan_bundle(list_models(store), seen.append)
    assert (store.models_dir / "acme/tiny/tiny-F32.gguf").stat().st_size == sum(seen)
    write_bundle(plan, out)
    with open_bundle(out) as bundle:
        bundle.check_contents()


def test_a_model_that_is_not_as_recorded_stops_the_bundle(store, out):
    path = store.models_dir / "acme/tiny/tiny-F32.gguf"
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(CannotBundle) as caught:
        pack(store, out, split_bytes=2**20)
    assert f"it has {facts.st_size} bytes with the SHA-256 " in caught.value.reason
    assert [] == list(out.parent.iterdir())


@pytest.mark.parametrize("taken", ["b.tar", "b.tar.001", "b.tar.sha256"])
def test_nothing_that_exists_is_overwritten(store, out, taken):
    out.with_name(taken).write_text("mine")
    with pytest.raises(CannotWrite) as caught:
        pack(store, out, split_bytes=2**20)
    assert "it exists already" == caught.value.reason
    assert [out.with_name(taken)] == list(out.parent.iterdir())
    assert "mine" == out.with_name(taken).read_text()


def test_a_part_that_appears_meanwhile_is_not_overwritten(store, out):
    def appear(_):
        out.with_name("b.tar.002").write_text("mine")

    with pytest.raises(CannotWrite):
        pack(store, out, split_bytes=2**20, progress=appear)
    assert [out.with_name("b.tar.002")] == list(out.parent.iterdir())


def test_an_interrupt_leaves_nothing(store, out):
    def interrupt(_):
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        pack(store, out, progress=interrupt)
    assert [] == list(out.parent.iterdir())


def test_a_missing_folder_is_told(store, out):
    with pytest.raises(CannotWrite) as caught:
        pack(store, out.parent / "none" / "b.tar")
    assert "its folder does not exist" == caught.value.reason


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_and_left_clean(out):
    with FULL.open("wb", buffering=0) as device, Output(out, None) as output:
        output.write(b"x")
        output._file.close()
        output._file = device
        with pytest.raises(CannotWrite) as caught:
            output.write(b"x")
    assert "the disk became full" == caught.value.reason
    assert [] == list(out.parent.iterdir())


def test_too_many_parts_name_the_least_size(store, out):
    with pytest.raises(CannotWrite) as caught:
        pack(store, out, split_bytes=10_000)
    assert "Split into at least 1048576 bytes; 999 parts are possible." in (
        caught.value.message
    )


def test_a_name_like_that_of_a_part_is_refused(store, out):
    with pytest.raises(CannotWrite) as caught:
        pack(store, out.with_name("b.007"))
    assert "its name ends like that of a part" == caught.value.reason

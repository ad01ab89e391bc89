"""Stores with models, bundles of them, and bundles made wrong by an attacker.

The attacker writes with Python's own tarfile, which knows all the tricks that
this project's code does not.
"""

import io
import os
import tarfile
from dataclasses import dataclass, field

import pytest

from model_store.admission import Incoming, admit, parse_target
from model_store.bundle import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    SUMS_NAME,
    BadBundle,
    encode_manifest,
    render_sums,
)
from model_store.bundle_import import import_bundle
from model_store.bundle_plan import plan_bundle
from model_store.bundle_reader import open_bundle
from model_store.bundle_writer import write_bundle
from model_store.catalog import Catalog
from model_store.layout import Store
from model_store.record import Source
from model_store.signature import Policy, Verdict, create_key
from tests.model_store.conftest import Forge

UINT16, UINT32, STRING = 2, 4, 8
MTIME_NS = 1_700_000_000 * 10**9


def make_signer():
    return create_key(None)[1]


def wide_tensor(n_bytes, name="token_embd.weight"):
    rows = n_bytes // 128
    data = b"".join(index.to_bytes(128, "big") for index in range(rows))
    return Forge.Tensor(name=name, dimensions=(32, rows), data=data)


def stock(home, *, n_bytes=600 * 2**10):
    """Fill a store through admission: a single model with a licence, and a model
    of two shards with a projector. Return the store."""
    store = Store(home)
    origin = home.parent / f"{home.name}-origin"
    origin.mkdir()
    shards = [
        Forge(
            keys={
                "split.no": (UINT16, number),
                "split.count": (UINT16, 2),
                "split.tensors.count": (UINT32, 2),
            },
            tensors=(wide_tensor(n_bytes, name=f"t{number}"),),
        ).build()
        for number in range(2)
    ]
    projector = Forge(keys={"general.architecture": (STRING, "clip")}).build()
    contents = {
        "acme/tiny": {"tiny-F32.gguf": Forge(tensors=(wide_tensor(n_bytes),)).build()},
        "acme/pair": {
            "pair-00001-of-00002.gguf": shards[0],
            "pair-00002-of-00002.gguf": shards[1],
            "mmproj-pair.gguf": projector,
        },
    }
    for target, files in contents.items():
        incoming = []
        for name, content in files.items():
            path = origin / name
            path.write_bytes(content)
            os.utime(path, ns=(MTIME_NS, MTIME_NS))
            incoming.append(Incoming(path=path, name=name))
        source = Source(kind="hub", location="acme/source", revision="f00d")
        with store.staging() as area:
            admit(store, area, incoming, parse_target(target), source)
    (store.models_dir / "acme" / "tiny" / "LICENSE").write_bytes(b"Do as you like.\n")
    return store


def list_models(store):
    catalog = Catalog([store.models_dir])
    catalog.refresh()
    assert () == catalog.broken()
    return catalog.models()


def pack(store, out, **options):
    """Write a bundle of all models of a store."""
    return write_bundle(plan_bundle(list_models(store)), out, **options)


@dataclass
class Tampered:
    """The members of a bundle, to be changed and written again by tarfile."""

    members: list = field(default_factory=list)

    @classmethod
    def of(cls, path):
        with tarfile.open(path) as archive:
            return cls([(info, archive.extractfile(info).read()) for info in archive])

    def content(self, name):
        return next(raw for info, raw in self.members if info.name == name)

    def index(self, name):
        names = [info.name for info, _ in self.members]
        return names.index(name)

    def replace(self, name, content):
        info, _ = self.members[self.index(name)]
        info.size = len(content)
        self.members[self.index(name)] = (info, content)

    def reseal(self, manifest):
        """Write the list and SHA256SUMS anew, as an attacker without key can."""
        raw = encode_manifest(manifest)
        self.replace(MANIFEST_NAME, raw)
        self.replace(SUMS_NAME, render_sums(manifest, raw))

    def unsign(self):
        self.members = [m for m in self.members if m[0].name != SIGNATURE_NAME]

    def write(self, path, tar_format=tarfile.GNU_FORMAT):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tar_format) as archive:
            for info, content in self.members:
                archive.addfile(info, io.BytesIO(content))
        path.write_bytes(raw.getvalue())
        return path


def snapshot(folder):
    """List what lies in a folder, the store's own files left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cloister" not in path.parts
    }


def refuse(path, error=BadBundle):
    """Open a bundle that must be refused by its structure; return the reason."""
    with pytest.raises(error) as caught, open_bundle(path):
        pass
    home = path.parent / "closed"
    with pytest.raises(error), open_bundle(path) as opened:
        import_bundle(Store(home), opened, Verdict(Policy.OFF))
    assert not home.exists()
    return caught.value.reason

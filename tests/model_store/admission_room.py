"""Where admission is tested: a source, a store, and a look at both."""

import hashlib
import subprocess

from model_store.admission import Incoming, Target, admit
from model_store.layout import Store
from model_store.record import Source

UINT32 = 4
TARGET = Target("pub", "repo")


class Room:
    """A folder `usb` with files, and a store that takes them."""

    def __init__(self, tmp_path, place, forge):
        self.store = Store(tmp_path / "home")
        self.source = Source("sideload", str(tmp_path / "usb"))
        self._place = place
        self._forge = forge

    def usb(self, name="m.gguf", content=None, **parts):
        """Write a file at the source."""
        return self._place(name, content, root="usb", **parts)

    def shards(self):
        """Write a model of three parts at the source."""
        paths = []
        for number in range(3):
            keys = {"split.no": (UINT32, number), "split.count": (UINT32, 3)}
            tensor = self._forge.Tensor(name=f"t{number}", data=bytes([number]) * 512)
            name = f"m-0000{number + 1}-of-00003.gguf"
            paths.append(self.usb(name, keys=keys, tensors=(tensor,)))
        return paths

    def take(self, *files, target=TARGET, progress=None):
        """Admit files, given as paths or as `Incoming`."""
        incoming = [
            each if isinstance(each, Incoming) else Incoming(each, each.name)
            for each in files
        ]
        with self.store.staging() as staging:
            return admit(
                self.store, staging, incoming, target, self.source, progress=progress
            )


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_store(store):
    """List what a visitor of the store sees, and check it is consistent."""
    incoming = store.models_dir / ".cloister/incoming"
    assert [] == list(incoming.iterdir())
    files = [
        path
        for path in store.models_dir.rglob("*")
        if path.is_file() and ".cloister" not in path.parts
    ]
    for folder in {path.parent for path in files if path.name == "SHA256SUMS"}:
        subprocess.run(
            ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"],
            cwd=folder,
            check=True,
        )
    return sorted(str(path.relative_to(store.models_dir)) for path in files)

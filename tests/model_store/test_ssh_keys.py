"""Keys are read as ssh-keygen writes them; whatever else is refused by name."""

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from model_store.signature import create_key, load_signer
from model_store.ssh_keys import BadKey, load_trusted, read_public_key


def never_asked():
    raise AssertionError("asked for a passphrase")


@pytest.fixture
def key(tmp_path):
    content, signer = create_key(None)
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    path.with_suffix(".pub").write_text(signer.key.line + "\n")
    return path


@pytest.fixture
def ssh_keygen():
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.skip("no ssh-keygen: install OpenSSH to run this test")

    def call(*args, stdin=b"", expected=0):
        done = subprocess.run(
            [program, *args], input=stdin, capture_output=True, check=False
        )
        assert expected == done.returncode, done.stderr
        return done.stdout.decode()

    return call


def test_a_protected_key_asks_for_its_passphrase(tmp_path, ssh_keygen):
    path = tmp_path / "locked"
    ssh_keygen("-q", "-t", "ed25519", "-a", "1", "-N", "open sesame", "-f", path)
    signer = load_signer(path, lambda: "open sesame")
    assert read_public_key(path.with_suffix(".pub")).raw == signer.key.raw
    with pytest.raises(BadKey) as caught:
        load_signer(path, lambda: "sesame")
    assert "the passphrase is wrong" == caught.value.reason


def test_a_protected_key_of_ours_opens_with_its_passphrase(tmp_path):
    content, signer = create_key("open sesame")
    (tmp_path / "k").write_bytes(content)
    assert signer.key == load_signer(tmp_path / "k", lambda: "open sesame").key


def ecdsa_key():
    return ec.generate_private_key(ec.SECP256R1())


def test_other_kinds_of_keys_are_refused(tmp_path):
    private = ecdsa_key()
    path = tmp_path / "ec"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = tmp_path / "ec.pub"
    public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    with pytest.raises(BadKey) as caught:
        load_signer(path, never_asked)
    assert "it is no Ed25519 key; no other kind is accepted" == caught.value.reason
    with pytest.raises(BadKey) as caught:
        read_public_key(public)
    assert "it is no public Ed25519 key (ssh-ed25519 AAAA…)" == caught.value.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is no public Ed25519 key (ssh-ed25519 AAAA…)"),
        (b"ssh-ed25519 %%%", "it is damaged: "),
        (b"ssh-ed25519 AAAA", "it is damaged: it ends early"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----", "it is a private key; "),
        (b"x" * 65_537, "it has more than 65536 bytes"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path, content, reason):
    (tmp_path / "x.pub").write_bytes(content)
    with pytest.raises(BadKey) as caught:
        read_public_key(tmp_path / "x.pub")
    assert caught.value.reason.startswith(reason)


def test_one_bad_key_in_the_trust_folder_is_told(tmp_path, key):
    (trusted,) = load_trusted(tmp_path)
    assert key.with_suffix(".pub") == trusted.path
    (tmp_path / "bad.pub").write_text("x")
    with pytest.raises(BadKey):
        load_trusted(tmp_path)
    assert () == load_trusted(tmp_path / "none")

"""Signatures are those of OpenSSH: made and checked by ssh-keygen as well."""

import shutil
import subprocess

import pytest

from model_store.signature import (
    NAMESPACE,
    BadSignature,
    Policy,
    UntrustedBundle,
    create_key,
    default_policy,
    judge,
    load_signer,
    verify,
)
from model_store.ssh_keys import TrustedKey, read_public_key

TEXT = b"0" * 64 + b"  acme/tiny/tiny.gguf\n"


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
def signer(key):
    return load_signer(key, never_asked)


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


def refuse(path, signature, text=TEXT):
    with pytest.raises(BadSignature) as caught:
        verify(path, text, signature)
    return caught.value.reason


def test_ssh_keygen_accepts_our_signature(tmp_path, signer, ssh_keygen):
    (tmp_path / "sums.sig").write_bytes(signer.sign(TEXT))
    (tmp_path / "allowed").write_text(f"me {signer.key.line}\n")
    options = ["-f", tmp_path / "allowed", "-I", "me", "-s", tmp_path / "sums.sig"]
    verify_args = ["-Y", "verify", "-n", NAMESPACE, *options]
    out = ssh_keygen(*verify_args, stdin=TEXT)
    assert f"key {signer.key.fingerprint}\n" in out
    ssh_keygen(*verify_args, stdin=TEXT + b"x", expected=255)


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_we_accept_what_ssh_keygen_signs(tmp_path, ssh_keygen, hash_name):
    path = tmp_path / "theirs"
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "me@here", "-f", path)
    (tmp_path / "sums").write_bytes(TEXT)
    options = ["-O", f"hashalg={hash_name}", "-n", NAMESPACE]
    ssh_keygen("-q", "-Y", "sign", *options, "-f", path, tmp_path / "sums")
    signature = (tmp_path / "sums.sig").read_bytes()
    public = read_public_key(path.with_suffix(".pub"))
    assert public.raw == verify(path, TEXT, signature).raw
    assert "me@here" == public.comment
    assert public.fingerprint in ssh_keygen("-lf", path)


def test_a_signature_of_another_purpose_is_refused(tmp_path, key, ssh_keygen):
    (tmp_path / "sums").write_bytes(TEXT)
    ssh_keygen("-q", "-Y", "sign", "-n", "git", "-f", key, tmp_path / "sums")
    assert (
        "its signature is unusable: it was made for b'git' and not for "
        "b'cloister-bundle'"
    ) == refuse(key, (tmp_path / "sums.sig").read_bytes())


def test_a_flipped_bit_anywhere_in_the_signature_is_found(key, signer):
    signature = signer.sign(TEXT)
    assert signer.key == verify(key, TEXT, signature)
    for bit in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        refuse(key, bytes(changed))


def test_a_changed_text_is_refused_with_the_fingerprint(key, signer):
    assert (
        f"its SHA256SUMS does not fit the signature by the key {signer.key.fingerprint}"
    ) == refuse(key, signer.sign(TEXT), TEXT + b"\n")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"x" * 500,
        b"-----BEGIN SSH SIGNATURE-----\nQQ==\n-----END SSH SIGNATURE-----\n",
    ],
)
def test_what_is_no_signature_is_refused(key, content):
    assert refuse(key, content).startswith("its signature is unusable: it ")


def test_the_policy_follows_the_trust_folder_unless_chosen(signer, key):
    assert Policy.WARN is default_policy(())
    assert Policy.REQUIRE is default_policy((TrustedKey(signer.key, key),))


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.parametrize("policy", Policy)
def test_what_each_policy_takes(key, signer, policy, is_trusted, is_signed):
    trusted = (TrustedKey(signer.key, key),) if is_trusted else ()
    signature = signer.sign(TEXT) if is_signed else None
    if policy is Policy.REQUIRE and not (is_signed and is_trusted):
        with pytest.raises(UntrustedBundle):
            judge(key, TEXT, signature, policy=policy, trusted=trusted)
        return
    verdict = judge(key, TEXT, signature, policy=policy, trusted=trusted)
    is_known = is_signed and is_trusted and policy is not Policy.OFF
    assert is_known == (verdict.trusted_as is not None)
    assert (policy is Policy.WARN and not is_known) == (verdict.warning is not None)


def test_a_signature_that_does_not_fit_is_refused_though_only_a_warning_was_asked(
    key, signer
):
    with pytest.raises(BadSignature):
        judge(key, b"x", signer.sign(TEXT), policy=Policy.WARN, trusted=())

"""What users and hubs say, and what is made of it."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from model_store.hub_errors import BadHubSetting, BadRequest
from model_store.remote import (
    DEFAULT_ENDPOINT,
    MAX_LISTED_FILES,
    RemoteFile,
    Wanted,
    build_file,
    check_commit,
    check_endpoint,
    is_safe_path,
    parse_wanted,
    read_access,
    read_files,
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a/b", Wanted("a/b")),
        (" a/b-GGUF ", Wanted("a/b-GGUF")),
        ("a/b:Q4_K_M", Wanted("a/b", quantization="Q4_K_M")),
        ("a/b:UD-Q4_K_XL", Wanted("a/b", quantization="UD-Q4_K_XL")),
        ("a/b/Q4/c d.gguf", Wanted("a/b", file="Q4/c d.gguf")),
        ("hf.co/a/b:Q8_0", Wanted("a/b", quantization="Q8_0")),
        ("https://huggingface.co/a/b", Wanted("a/b")),
        ("https://huggingface.co/a/b/tree/v1", Wanted("a/b", revision="v1")),
        (
            "https://huggingface.co/a/b/blob/main/x/c.gguf?download=true",
            Wanted("a/b", file="x/c.gguf", revision="main"),
        ),
        (
            "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/c%20d.gguf",
            Wanted("a/b", file="c d.gguf", revision="refs/pr/1"),
        ),
    ],
)
def test_what_users_write_is_understood(text, wanted):
    assert wanted == parse_wanted(text)


def test_a_revision_of_the_user_wins_over_one_in_an_address():
    address = "https://huggingface.co/a/b/tree/v1"
    assert "v2" == parse_wanted(address, "v2").revision


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' does not name a repository"),
        ("model", "'model' does not name a repository"),
        ("../b", "'../b' does not name a repository"),
        ("a/..", "'a/..' does not name a repository"),
        (".a/b", "'.a/b' does not name a repository"),
        ("a/b%2fc", "does not name a repository"),
        ("https://other.test/a/b", "does not name a repository"),
        ("a/b:", "'' is not the name of a quantisation"),
        ("a/b:Q4 K", "'Q4 K' is not the name of a quantisation"),
        ("a/b/model.bin", "'model.bin' is not the name of a GGUF file"),
        ("a/b/../c.gguf", "the path '../c.gguf' leads out of the repository"),
        ("a/b/x\\c.gguf", "leads out of the repository"),
    ],
)
def test_what_names_nothing_is_refused_with_its_text(text, said):
    with pytest.raises(BadRequest) as caught:
        parse_wanted(text)
    assert said.casefold() in caught.value.message.casefold()


@pytest.mark.parametrize("revision", ["", "a b", "../main", "x" * 257, "a\nb", "a?b"])
def test_a_revision_that_cannot_be_one_is_refused(revision):
    with pytest.raises(BadRequest, match="is not a revision"):
        parse_wanted("a/b", revision or "\t")


def test_the_environment_is_read():
    access = read_access(
        {
            "HF_ENDPOINT": "https://mirror.test/hf/",
            "HF_TOKEN": " hf_x\n",
            "REQUESTS_CA_BUNDLE": "/ca.pem",
        }
    )
    assert ("https://mirror.test/hf", "hf_x", "/ca.pem") == (
        access.endpoint,
        access.token,
        access.ca_file,
    )
    assert "hf_x" not in repr(access)


def test_nothing_set_means_the_public_hub_without_a_token():
    access = read_access({"HF_TOKEN": "", "SSL_CERT_FILE": "", "HF_HUB_OFFLINE": "0"})
    assert (DEFAULT_ENDPOINT, None, None) == (
        access.endpoint,
        access.token,
        access.ca_file,
    )
    assert (
        "http://m.test" == read_access({"HF_ENDPOINT": "x"}, "http://m.test").endpoint
    )


@pytest.mark.parametrize("name", ["CLOISTER_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("word", ["TRUE", "1", "process", "sometimes"])
def test_a_forbidden_network_is_not_used(name, word):
    text = f"Offline by policy: {name}={word} forbids the network"
    with pytest.raises(BadHubSetting, match=text):
        read_access({name: word})


@pytest.mark.parametrize("word", ["", "0", "off", "FALSE", "no"])
def test_a_network_that_is_not_forbidden_may_be_used(word):
    assert read_access({"CLOISTER_OFFLINE": word}).token is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub.test",
        "ftp://hub.test",
        "http://",
        "http://h:0",
        "http://h:x",
        "http://[",
        "https://h/?a=b",
        "https://h/#a",
        "https://h/\x00",
    ],
)
def test_an_endpoint_that_is_no_address_is_refused(text):
    with pytest.raises(BadHubSetting, match="is not the address of a hub"):
        check_endpoint(text)


def test_an_endpoint_with_a_password_is_refused_without_showing_it():
    with pytest.raises(BadHubSetting, match="holds a user name") as caught:
        check_endpoint("https://me:geheim@hub.test")
    assert "geheim" not in caught.value.message


@pytest.mark.parametrize("token", ["two words", "hf_\x00", "ü", "x" * 5_000])
def test_a_token_that_is_none_is_refused_without_showing_it(token):
    with pytest.raises(BadHubSetting, match="HF_TOKEN holds something") as caught:
        read_access({"HF_TOKEN": token})
    assert token not in caught.value.message


@pytest.mark.parametrize(
    "path", ["", "/a.gguf", "a//b.gguf", "./a", "a/..", "a\x1b[m", "a\\b", "x" * 2_000]
)
def test_paths_that_leave_the_repository_are_not_safe(path):
    assert not is_safe_path(path)
    assert is_safe_path("Q4_K_M/model v1.gguf")


@dataclass
class Listed:
    rfilename: object
    size: object = 5
    blob_id: object = "b" * 40
    lfs: object = None


def test_a_list_keeps_gguf_files_with_what_is_known_of_them():
    pointer = SimpleNamespace(size=9, sha256="c" * 64)
    asked = RemoteFile("z.gguf", 7)
    listed = [
        Listed("z.gguf", size=None),
        Listed("b.GGUF", lfs=pointer),
        Listed("a.gguf"),
        Listed("../x.gguf"),
        Listed("README.md"),
        Listed("._a.gguf"),
    ]
    assert read_files(listed, lambda _: asked) == (
        RemoteFile("a.gguf", 5, git_blob="b" * 40),
        RemoteFile("b.GGUF", 9, sha256="c" * 64),
        asked,
    )


@pytest.mark.parametrize("size", [-1, 2**60, "5", True, 1.5])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"^$"):
        build_file("a.gguf", size, None)


def test_a_list_without_end_is_refused():
    with pytest.raises(ValueError, match=r"^$"):
        read_files([Listed("a.gguf")] * (MAX_LISTED_FILES + 1), lambda _: None)


@pytest.mark.parametrize("commit", [None, "main", "A" * 40, "a" * 41, 5])
def test_a_commit_that_is_none_is_refused(commit):
    with pytest.raises(ValueError, match=r"^$"):
        check_commit(commit)
    assert "a" * 40 == check_commit("a" * 40)

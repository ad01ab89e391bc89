"""Every failure of a download says what happened and what to do."""

import socket
import ssl

import pytest

from model_store import hub_errors
from model_store.hub_errors import Answer, explain_answer, explain_break

ENDPOINT = "https://hub.test/prefix"
SUBJECT = "acme/m-GGUF/x.gguf"


def explain(status, *, has_token=False, **parts):
    return explain_answer(
        Answer(status, **parts),
        subject=SUBJECT,
        endpoint=ENDPOINT,
        has_token=has_token,
    )


def test_the_drawn_tree_is_the_tree_of_classes():
    drawn = {
        line.split("─ ")[1].split()[0]
        for line in hub_errors.__doc__.splitlines()
        if "─ " in line
    }
    classes = {each.__name__ for each in hub_errors.HubError.__subclasses__()}
    assert drawn == classes


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (
            explain(401),
            "hub_refused",
            (
                "The hub does not give 'acme/m-GGUF/x.gguf' without a token (401). "
                "Check the name. If the repository is gated or private, open "
                "https://hub.test/prefix/acme/m-GGUF in a browser, accept its "
                "terms, and set HF_TOKEN to a token of yours."
            ),
        ),
        (
            explain(403, has_token=True, said="terms\x1b"),
            "hub_refused",
            (
                "The token in HF_TOKEN has no access to 'acme/m-GGUF/x.gguf' (403) "
                "('terms'). Open https://hub.test/prefix/acme/m-GGUF in a browser "
                "with the account of the token and accept the terms; wait for "
                "approval where it asks for one."
            ),
        ),
        (
            explain(429, wait_s=90.0),
            "hub_busy",
            (
                "The hub answered 429 for 'acme/m-GGUF/x.gguf': too many requests. "
                "Wait 90 s. Run the same command again; it goes on where it "
                "stopped. A token in HF_TOKEN raises the limit."
            ),
        ),
        (
            explain(407),
            "hub_refused",
            (
                "The proxy asks for a user name and a password (407). Write them "
                "into HTTPS_PROXY: http://user:password@host:port."
            ),
        ),
        (
            explain(404, error_code="RevisionNotFound"),
            "not_on_hub",
            (
                "The repository 'acme/m-GGUF/x.gguf' has no such revision. See "
                "https://hub.test/prefix/acme/m-GGUF/tree/main for its branches and"
                " commits."
            ),
        ),
    ],
)
def test_an_answer_becomes_a_text_with_the_next_step(answer, code, message):
    assert (code, message) == (answer.code, answer.message)


@pytest.mark.parametrize(
    ("status", "is_passing"),
    [(401, False), (404, False), (408, True), (416, False), (429, True), (503, True)],
)
def test_only_what_may_pass_is_tried_again(status, is_passing):
    assert is_passing == explain(status, wait_s=3.0).is_passing
    assert 3.0 == explain(status, wait_s=3.0).wait_s


def broken(cause, *, has_proxy=False):
    error = ConnectionError("it failed")
    error.__cause__ = cause
    return explain_break(error, host="hub.test", subject=SUBJECT, has_proxy=has_proxy)


def test_an_untrusted_certificate_says_how_to_trust_it():
    cause = ssl.SSLCertVerificationError()
    cause.verify_message = "self-signed certificate"
    assert broken(cause).message == (
        "The certificate of 'hub.test' is not trusted (self-signed certificate). If a "
        "proxy of yours opens encrypted connections, set SSL_CERT_FILE to a file with "
        "its CA certificate."
    )


def test_a_missing_network_says_how_to_carry_the_file_in():
    assert broken(socket.gaierror()).message == (
        "No address is known for the host 'hub.test'. If this machine has no network, "
        "fetch the file on another one and carry it in: cloister import FILE --sha256 "
        "HEX."
    )
    assert (
        "through the proxy of the environment" in broken(None, has_proxy=True).message
    )

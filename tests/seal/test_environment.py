"""The environment of sealed processes."""

from server.seal.environment import pin_environment, select_worker_environment


def test_libraries_are_told_and_proxies_are_gone():
    environment = {"HTTPS_PROXY": "http://192.0.2.1", "http_proxy": "x", "HOME": "/h"}
    pin_environment(environment)
    assert "1" == environment["HF_HUB_OFFLINE"]
    assert "1" == environment["DO_NOT_TRACK"]
    assert "/h" == environment["HOME"]
    assert not {"HTTPS_PROXY", "http_proxy"} & environment.keys()


def test_a_worker_gets_no_secret():
    given = {
        "CLOISTER_API_KEY": "s",
        "HF_TOKEN": "s",
        "SSH_AUTH_SOCK": "s",
        "DBUS_SESSION_BUS_ADDRESS": "s",
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    expected = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}
    assert expected == select_worker_environment(given)

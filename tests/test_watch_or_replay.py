"""`make run` watches the cluster that kubectl would speak to, where one answers."""

import socket
from pathlib import Path

from infra.watch_or_replay import current_server, kubeconfigs, reachable

CONFIG = """
current-context: {current}
contexts: [{{name: {name}, context: {{cluster: {name}}}}}]
clusters: [{{name: {name}, cluster: {{server: "https://{name}:6443"}}}}]
"""


def test_kubeconfig_of_the_environment_comes_before_that_of_the_home() -> None:
    assert kubeconfigs({"KUBECONFIG": "/a:/b", "HOME": "/home/me"}) == [Path("/a"), Path("/b")]
    assert kubeconfigs({"HOME": "/home/me"}) == [Path("/home/me/.kube/config")]


def test_files_are_merged_as_kubectl_merges_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(CONFIG.format(current="two", name="one"))
    second.write_text(CONFIG.format(current="one", name="two"))
    assert current_server([first, second]) == "https://two:6443"


def test_what_is_no_kubeconfig_has_no_server(tmp_path: Path) -> None:
    broken, empty = tmp_path / "broken", tmp_path / "empty"
    broken.write_text("{[")
    empty.write_text("")
    assert current_server([broken, empty, tmp_path / "none"]) is None


def test_a_server_answers_only_while_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        assert reachable(url, {})
    assert not reachable(url, {"HTTPS_PROXY": "http://proxy:3128"})
    assert reachable("https://cluster.example:6443", {"HTTPS_PROXY": "http://proxy:3128"})

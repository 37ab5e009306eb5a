"""`make run` watches the cluster that kubectl would speak to, where one answers."""

import socket
from pathlib import Path

from collectors.kubeconfig import ClusterEntry
from infra.watch_or_replay import current_cluster, reachable

CONFIG = """
current-context: shop
contexts: [{name: shop, context: {cluster: shop}}]
clusters: [{name: shop, cluster: {server: "https://shop:6443"}}]
"""


def test_the_cluster_is_that_of_the_current_context(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(CONFIG)
    cluster = current_cluster({"HOME": str(tmp_path)})
    assert cluster is not None
    assert cluster.server == "https://shop:6443"


def test_no_kubeconfig_and_a_broken_one_have_no_cluster(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("{[")
    assert current_cluster({"HOME": str(tmp_path)}) is None
    assert current_cluster({"KUBECONFIG": str(broken)}) is None


def test_a_server_answers_only_while_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = ClusterEntry(server=f"https://127.0.0.1:{server.getsockname()[1]}")
        assert reachable(cluster, {})
    assert not reachable(cluster, {"HTTPS_PROXY": "http://proxy:3128"})
    assert reachable(ClusterEntry(server="https://shop.example:6443"), {"HTTPS_PROXY": "http://proxy:3128"})

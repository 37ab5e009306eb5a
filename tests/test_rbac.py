"""The printed role is the least that the analyzers need, and gives nothing that writes."""

from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from analyzers import enabled
from kubewhy.cli.main import cli
from kubewhy.cli.rbac import for_cluster, for_namespaces, resources
from kubewhy.contracts import Analyzer, Need
from kubewhy.kube.apps import Deployment, ReplicaSet
from kubewhy.kube.core import Node, Pod

WIDE: list[Analyzer[Any]] = [
    Analyzer(
        reads=Pod,
        rules=(),
        find=lambda subject, related: iter(()),
        needs=(Need.owner(ReplicaSet), Need.named(Node, lambda pod: pod.spec.node_name), Need.events("Failed")),
    ),
    Analyzer(reads=Deployment, rules=(), find=lambda subject, related: iter(()), needs=(Need.owned(Pod),)),
]


def printed(*args: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli, ["rbac", *args])
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def granted(role: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_all_that_is_judged_or_needed_is_granted_and_nothing_else() -> None:
    (role,) = for_cluster(resources(WIDE), "kubewhy", None)
    kinds = {
        ("", "events"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
    }
    kinds |= {("batch", "jobs")}  # they own pods too
    wanted = {(*kind, verb) for kind in kinds for verb in ("list", "watch")}
    assert granted(role) == wanted | {("", "namespaces", "get")}


def test_the_only_namespace_that_may_be_got_is_the_one_that_names_the_cluster() -> None:
    (role,) = printed()
    (rule,) = [rule for rule in role["rules"] if "get" in rule["verbs"]]
    assert rule == {
        "apiGroups": [""],
        "resources": ["namespaces"],
        "resourceNames": ["kube-system"],
        "verbs": ["get"],
    }


@pytest.mark.parametrize("args", [(), ("--namespace", "shop")])
def test_logs_are_granted_where_that_is_asked_for(args: tuple[str, ...]) -> None:
    (plain,), (role,) = printed(*args), printed(*args, "--logs")
    assert granted(role) - granted(plain) == {("", "pods/log", "get")}
    assert granted(plain) < granted(role)


@pytest.mark.parametrize("args", [(), ("--namespace", "shop"), ("--bind",), ("--logs",)])
def test_no_wildcard_no_secret_and_nothing_that_writes(args: tuple[str, ...]) -> None:
    for document in printed(*args):
        for group, resource, verb in granted(document) if "rules" in document else ():
            assert "*" not in (group, resource, verb)
            assert resource != "secrets"
            assert verb in {"get", "list", "watch"}


def test_the_role_is_made_from_the_enabled_analyzers() -> None:
    (role,) = printed("--name", "reader")
    assert role == for_cluster(resources(enabled()), "reader", None)[0]


def test_a_namespace_gives_a_role_without_kinds_that_no_namespace_holds() -> None:
    (role,) = for_namespaces(resources(WIDE), "kubewhy", ["shop"], None)
    assert role["kind"] == "Role"
    assert role["metadata"] == {"name": "kubewhy", "namespace": "shop"}
    assert {resource for _, resource, _ in granted(role)} == {
        "events",
        "pods",
        "deployments",
        "replicasets",
        "jobs",
    }


def test_each_namespace_has_its_role_and_binding() -> None:
    documents = printed("-n", "shop", "-n", "bank", "--service-account", "tools:why")
    assert [(each["kind"], each["metadata"].get("namespace")) for each in documents] == [
        ("ServiceAccount", "tools"),
        ("Role", "shop"),
        ("RoleBinding", "shop"),
        ("Role", "bank"),
        ("RoleBinding", "bank"),
    ]
    assert documents[2]["subjects"] == [{"kind": "ServiceAccount", "namespace": "tools", "name": "why"}]


def test_bind_makes_a_service_account_and_binds_the_role_to_it() -> None:
    account, role, binding = printed("--bind")
    assert account["metadata"] == {"name": "kubewhy", "namespace": "kubewhy"}
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubewhy"}
    assert role["metadata"]["name"] == "kubewhy"


@pytest.mark.parametrize("account", ["why", ":why", "tools:", "tools:a:b", "Tools:why"])
def test_a_service_account_without_its_namespace_is_wrong_usage(account: str) -> None:
    result = CliRunner().invoke(cli, ["rbac", "--service-account", account])
    assert result.exit_code == 2

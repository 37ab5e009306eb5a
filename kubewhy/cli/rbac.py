"""`kubewhy rbac`: the least permissions that the analyzers need, made from what they read."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import click
import yaml

from analyzers import enabled
from collectors.store import kinds_read
from kubewhy.cli.options import check_namespaces
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Resource

API = "rbac.authorization.k8s.io"
VERBS = ["list", "watch"]
# The cluster's id is the UID of this namespace; nothing else of it is read.
CLUSTER_ID = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}

LOGS = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}

CLUSTER_NOTE = "# What kubewhy needs to watch the whole cluster. It only reads, and reads no Secret."
NAMESPACE_NOTE = """\
# What kubewhy needs to watch single namespaces. Kinds that no namespace holds (nodes, volumes, storage classes) cannot
# be granted here: what depends on them is then not known, and never told as missing. Nor can the labels of namespaces,
# by which silences and routes may go, or the cluster's id be read: give one as `cluster.id` in the settings where
# several clusters are told apart."""


def resources(analyzers: Iterable[Analyzer[Any]]) -> list[Resource]:
    """Every kind that is read, by group and plural."""
    return sorted((kind.resource for kind in kinds_read(analyzers)), key=lambda each: (each.group, each.plural))


def policy(read: Iterable[Resource]) -> list[dict[str, Any]]:
    """One RBAC rule an API group."""
    return [
        {"apiGroups": [group], "resources": [resource.plural for resource in members], "verbs": VERBS}
        for group, members in groupby(read, key=lambda resource: resource.group)
    ]


def for_cluster(
    read: Sequence[Resource], name: str, account: str | None, *, logs: bool = False
) -> list[dict[str, Any]]:
    """A ClusterRole, and with an account (namespace:name) that account and its binding."""
    role = _document("ClusterRole", {"name": name}, rules=[*policy(read), CLUSTER_ID, *([LOGS] if logs else [])])
    if account is None:
        return [role]
    return [_account(account), role, _binding("ClusterRoleBinding", "ClusterRole", {"name": name}, account)]


def for_namespaces(
    read: Sequence[Resource], name: str, namespaces: Sequence[str], account: str | None, *, logs: bool = False
) -> list[dict[str, Any]]:
    """A Role a namespace, of the kinds that namespaces hold, and with an account that account and its bindings."""
    granted = [*policy([resource for resource in read if resource.namespaced]), *([LOGS] if logs else [])]
    documents = [_account(account)] if account else []
    for namespace in namespaces:
        meta = {"name": name, "namespace": namespace}
        documents.append(_document("Role", meta, rules=granted))
        if account:
            documents.append(_binding("RoleBinding", "Role", meta, account))
    return documents


def _document(kind: str, metadata: dict[str, str], **body: Any) -> dict[str, Any]:
    return {"apiVersion": f"{API}/v1", "kind": kind, "metadata": metadata, **body}


def _binding(kind: str, role: str, metadata: dict[str, str], account: str) -> dict[str, Any]:
    namespace, _, name = account.partition(":")
    return _document(
        kind,
        metadata,
        roleRef={"apiGroup": API, "kind": role, "name": metadata["name"]},
        subjects=[{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    )


def _account(account: str) -> dict[str, Any]:
    namespace, _, name = account.partition(":")
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: the same list twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(documents: Iterable[dict[str, Any]], note: str) -> str:
    """The documents as `kubectl apply -f -` reads them."""
    parts = [yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=120) for each in documents]
    return f"{note}\n" + "---\n".join(parts)


def _check_account(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    namespace, colon, name = text.partition(":")
    if not (namespace and colon and name) or ":" in name:
        raise click.BadParameter(f"{text!r}: write NAMESPACE:NAME")
    check_namespaces([namespace])
    return text


@click.command("rbac")
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    callback=lambda context, parameter, names: check_namespaces(names),
    help="A Role in this namespace in place of a ClusterRole; may be given several times.",
)
@click.option("--name", default="kubewhy", show_default=True, help="What the role and its binding are called.")
@click.option("--bind", is_flag=True, help="Also make a service account, and bind the role to it.")
@click.option(
    "--service-account",
    "account",
    metavar="NAMESPACE:NAME",
    callback=_check_account,
    help="The service account of --bind, which this implies.  [default: kubewhy:kubewhy]",
)
@click.option("--logs", is_flag=True, help="Also get of pods/log, which --logs of other commands needs.")
def command(namespaces: tuple[str, ...], name: str, bind: bool, account: str | None, logs: bool) -> None:
    """Print the least permissions kubewhy needs, for `kubectl apply -f -`.

    They hold list and watch of the kinds that are judged and those it takes to judge them, and get of the namespace
    kube-system, whose UID is the cluster's id: no wildcard, no Secrets, nothing that writes.
    """
    read = resources(enabled())
    if any(resource.plural == "secrets" and not resource.group for resource in read):
        raise ConfigError("an installed analyzer reads Secrets, which kubewhy never asks for; uninstall it")
    if bind and account is None:
        account = "kubewhy:kubewhy"
    if namespaces:
        click.echo(render(for_namespaces(read, name, namespaces, account, logs=logs), NAMESPACE_NOTE), nl=False)
    else:
        click.echo(render(for_cluster(read, name, account, logs=logs), CLUSTER_NOTE), nl=False)

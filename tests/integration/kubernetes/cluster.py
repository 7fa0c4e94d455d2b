"""What an overlay of config/kubernetes comes to: its resources, its pods, and who may dial whom."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "config" / "kubernetes"
OVERLAYS = ("small", "production")


def build(overlay: str) -> list[dict[str, Any]]:
    """The resources of an overlay."""
    folder = str(FOLDER / "overlays" / overlay)
    if kustomize := shutil.which("kustomize"):
        command = [kustomize, "build", folder]
    elif kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", folder]
    else:
        raise AssertionError('no kubectl or kustomize: PATH="$(python3 .ci/kubectl.py):$PATH" gets one')
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


@dataclass(frozen=True)
class Workload:
    """One kind of pod."""

    name: str
    kind: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    """Of the pod."""
    template: Mapping[str, Any]
    """`spec` of the workload."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}

    def is_selected(self, selector: Mapping[str, str]) -> bool:
        """Whether a selector takes its pods, or one of them by its name."""
        wanted = dict(selector)
        pod = wanted.pop("statefulset.kubernetes.io/pod-name", None)
        if pod is not None and (self.kind != "StatefulSet" or pod.rpartition("-")[0] != self.name):
            return False
        return wanted.items() <= self.labels.items()


class Cluster:
    """The resources of one overlay."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        self.resources = resources
        self.workloads = [_workload(one) for one in resources if one["kind"] in {"Deployment", "StatefulSet"}]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.resources if one["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {one["metadata"]["name"] for one in self.of(kind)}

    def selected(self, selector: Mapping[str, str]) -> list[Workload]:
        return [one for one in self.workloads if one.is_selected(selector)]

    def dials(self) -> set[tuple[str, str, int]]:
        """(who, whom, port) of pods that may dial others: the one's way out, and the other's way in, are open."""
        return set(self._open("Egress")) & set(self._open("Ingress"))

    def _open(self, way: str) -> Iterator[tuple[str, str, int]]:
        for here in self.workloads:
            policies = [one["spec"] for one in self.of("NetworkPolicy") if _applies(one["spec"], here, way)]
            assert policies, f"{here.name} has no policy for {way}: everything would be open"
            for there in self.workloads:
                target = there if way == "Egress" else here
                for rule in (rule for one in policies for rule in one.get(way.lower(), [])):
                    if not any(_is_pod(peer, there) for peer in rule["to" if way == "Egress" else "from"]):
                        continue
                    for port in rule["ports"]:
                        pair = (here.name, there.name) if way == "Egress" else (there.name, here.name)
                        yield (*pair, _number(port["port"], target))


def settings_environment(container: Mapping[str, Any], pod: str) -> dict[str, str]:
    """A container's variables as the program would see them, made-up values for secrets, `$(NAME)` put in."""
    found: dict[str, str] = {}
    for entry in container["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            key = source["secretKeyRef"]["key"]
            value = "mongodb://user:password@mongo.example.org/" if key == "mongo-url" else f"value-of-{key}"
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            value = pod
        else:
            value = entry["value"]
        for name, known in found.items():
            value = value.replace(f"$({name})", known)
        assert "$(" not in value, f"{entry['name']} refers to what is not set before it: {value}"
        found[entry["name"]] = value
    return found


def _workload(resource: dict[str, Any]) -> Workload:
    template = resource["spec"]["template"]
    return Workload(
        resource["metadata"]["name"],
        resource["kind"],
        template["metadata"]["labels"],
        template["spec"],
        resource["spec"],
    )


def _applies(policy: Mapping[str, Any], workload: Workload, way: str) -> bool:
    return way in policy["policyTypes"] and workload.is_selected(policy["podSelector"].get("matchLabels", {}))


def _is_pod(peer: Mapping[str, Any], workload: Workload) -> bool:
    if set(peer) != {"podSelector"}:
        return False
    return workload.is_selected(peer["podSelector"]["matchLabels"])


def _number(port: str | int, workload: Workload) -> int:
    return workload.ports[port] if isinstance(port, str) else port

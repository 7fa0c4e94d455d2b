import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click import Command, Context, Group

from fedn.cli.main import root
from fedn.combiner.metrics import CombinerMetrics
from fedn.network.access import PUBLIC, ROUTE_ACCESS
from fedn.plan.settings import ClientSettings, CombinerSettings, ReducerSettings, load_settings
from fedn.plan.settings_load import environment_names
from tests.integration.kubernetes.cluster import FOLDER, OVERLAYS, Cluster, Workload, build, settings_environment

PROGRAMS = {"reducer": ReducerSettings, "combiner": CombinerSettings, "client": ClientSettings}
SCHEMAS = ("1.29", "1.32", kubernetes_validate.latest_version())
NOT_SETTINGS = {"POD_NAME", "MONGO_USER", "MONGO_PASSWORD", "FEDN_CONTEXT", "TMPDIR"}
"""Parts of other variables, one of the command line, one of Python."""
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "run-on-kubernetes.md"


@pytest.fixture(scope="module", params=OVERLAYS)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Cluster(build(request.param))


def own_containers(cluster: Cluster) -> list[tuple[Workload, dict[str, Any], str]]:
    """(pods, container, program) of everything that runs a program of ours."""
    return [
        (workload, container, container["args"][0])
        for workload in cluster.workloads
        for container in workload.containers
        if container.get("args", [""])[0] in PROGRAMS
    ]


def probes(container: dict[str, Any]) -> list[dict[str, Any]]:
    return [container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in container]


def command_of(words: list[str]) -> Command:
    found: Command = root
    for word in words:
        inner = found.get_command(Context(found), word) if isinstance(found, Group) else None
        assert inner is not None, f"there is no command: fedn {' '.join(words)}"
        found = inner
    return found


@pytest.mark.parametrize("version", SCHEMAS)
def test_resources_are_what_kubernetes_takes(cluster: Cluster, version: str) -> None:
    for resource in cluster.resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_wrong_field_would_be_seen(cluster: Cluster) -> None:
    wrong = cluster.of("Deployment")[0] | {"spec": cluster.of("Deployment")[0]["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SCHEMAS[-1], strict=True)


def test_variables_are_settings_and_the_programs_take_their_values(cluster: Cluster) -> None:
    containers = own_containers(cluster)
    assert {"reducer", "combiner"} <= {program for _, _, program in containers}
    for workload, container, program in containers:
        environment = settings_environment(container, f"{workload.name}-0")
        known = {name for names in environment_names(PROGRAMS[program]).values() for name in names}
        assert set(environment) - known <= NOT_SETTINGS
        settings = load_settings(PROGRAMS[program], file=None, environ=environment, flags={})
        assert str(settings.data_dir) in {mount["mountPath"] for mount in container["volumeMounts"]}
        if not isinstance(settings, ClientSettings):
            assert settings.port in workload.ports.values()


def test_a_combiner_is_reached_by_the_name_of_its_pod(cluster: Cluster) -> None:
    workload, container, _ = next(found for found in own_containers(cluster) if found[2] == "combiner")
    settings = load_settings(
        CombinerSettings, file=None, environ=settings_environment(container, "fedn-combiner-1"), flags={}
    )
    assert settings.name == "fedn-combiner-1"
    published = [one["metadata"].get("annotations", {}) for one in cluster.of("Service")]
    names = {one.get("external-dns.alpha.kubernetes.io/hostname") for one in published}
    within = f"fedn-combiner-1.{workload.template['serviceName']}"
    assert settings.public_host in names | {within}
    assert workload.template["serviceName"] in cluster.names("Service")
    assert settings.metrics_port == workload.ports["metrics"]
    assert settings.metrics_bind == "0.0.0.0"


def test_commands_and_probes_exist(cluster: Cluster) -> None:
    for _, container, _ in own_containers(cluster):
        command_of(container["args"])
        for probe in probes(container):
            if "exec" in probe:
                assert probe["exec"]["command"][0] == "fedn"
                words = probe["exec"]["command"][1:]
                command = command_of(list(takewhile(lambda word: not word.startswith("-"), words)))
                assert {word for word in words if word.startswith("-")} <= {o for p in command.params for o in p.opts}
            if "httpGet" in probe:
                assert ROUTE_ACCESS[("GET", probe["httpGet"]["path"])] is PUBLIC
                assert probe["httpGet"]["scheme"] == "HTTPS"
        assert len(probes(container)) == 3


def test_ports_by_name_are_there(cluster: Cluster) -> None:
    for workload in cluster.workloads:
        for container in workload.containers:
            for probe in probes(container):
                port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
                assert port is None or port in workload.ports
    for service in cluster.of("Service"):
        for workload in cluster.selected(service["spec"]["selector"]):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(workload.ports)
            assert {port["port"] for port in service["spec"]["ports"]} <= set(workload.ports.values())


def test_every_selector_finds_pods(cluster: Cluster) -> None:
    for workload in cluster.workloads:
        assert workload.is_selected(workload.template["selector"]["matchLabels"])
        assert len(cluster.selected(workload.template["selector"]["matchLabels"])) == 1
    selectors = [one["spec"]["selector"] for one in cluster.of("Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in cluster.of("PodDisruptionBudget")]
    for policy in cluster.of("NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert cluster.selected(selector), selector


def test_volumes_and_claims_are_there(cluster: Cluster) -> None:
    for workload in cluster.workloads:
        volumes = {one["name"]: one for one in workload.spec.get("volumes", [])}
        claimed = {one["metadata"]["name"] for one in workload.template.get("volumeClaimTemplates", [])}
        for container in workload.containers:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes) | claimed
        claims = {
            one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one
        }
        assert claims <= cluster.names("PersistentVolumeClaim")


def test_pods_may_do_no_more_than_they_need(cluster: Cluster) -> None:
    for workload in cluster.workloads:
        assert workload.spec["securityContext"]["runAsNonRoot"]
        assert workload.spec["securityContext"]["runAsUser"] > 0
        assert workload.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert workload.spec["automountServiceAccountToken"] is False
        for container in workload.containers:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]


def test_only_those_may_dial_one_another_who_have_to(cluster: Cluster) -> None:
    expected = {("fedn-reducer", "fedn-combiner", 12080), ("fedn-combiner", "fedn-reducer", 8090)}
    if "fedn-client" in {one.name for one in cluster.workloads}:
        expected |= {("fedn-client", "fedn-reducer", 8090), ("fedn-client", "fedn-combiner", 12080)}
        expected |= {("fedn-reducer", "fedn-mongo", 27017), ("fedn-reducer", "fedn-minio", 9000)}
    assert cluster.dials() == expected


def test_the_reducer_is_one_and_never_two(cluster: Cluster) -> None:
    (reducer,) = (one for one in cluster.workloads if one.name == "fedn-reducer")
    assert reducer.template["replicas"] == 1
    assert reducer.template["strategy"] == {"type": "Recreate"}


def test_combiners_follow_a_metric_that_they_have() -> None:
    cluster = Cluster(build("production"))
    (scaler,) = cluster.of("HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    assert target["name"] in cluster.names(target["kind"])
    (combiner,) = (one for one in cluster.workloads if one.name == target["name"])
    assert "replicas" not in combiner.template, "the autoscaler and the manifest would fight"
    (metric,) = (one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"])
    assert metric in {family.name for family in CombinerMetrics().registry.collect()}
    rules = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert [rule["name"]["as"] for rule in rules if rule["seriesQuery"].startswith(f"{metric}{{")] == [metric]
    addresses = [
        one for one in cluster.of("Service") if "statefulset.kubernetes.io/pod-name" in one["spec"]["selector"]
    ]
    assert len(addresses) == scaler["spec"]["maxReplicas"]


def test_each_image_is_named_in_one_place(cluster: Cluster) -> None:
    for workload in cluster.workloads:
        for container in workload.containers:
            assert re.fullmatch(r"[\w./-]+:[\w.-]+", container["image"]), "an overlay gives no tag for it"
    for path in FOLDER.rglob("*.yaml"):
        if path.name != "kustomization.yaml":
            images = re.findall(r"^\s*(?:- )?image: *(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert all(re.fullmatch(r"[a-z-]+", image) for image in images), path


def test_secrets_are_named_and_not_given(cluster: Cluster) -> None:
    assert not cluster.of("Secret")
    page = PAGE.read_text(encoding="utf-8")
    for workload in cluster.workloads:
        for container in workload.containers:
            for entry in container["env"]:
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                if reference is not None:
                    assert f"generic {reference['name']}" in page
                    assert f"--from-literal={reference['key']}=" in page
                elif re.search("TOKEN|SECRET|PASSWORD|JOIN", entry["name"]):
                    pytest.fail(f"{entry['name']} has its value in the manifest")

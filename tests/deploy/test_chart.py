"""The Helm chart, rendered by Helm itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.config import Config, parse_config
from tests.deploy.files import CHART, ENV, read, run, tool

HELM = "make .venv/bin/helm"
VALUES = (CHART / "values.yaml").read_text()

#: The configuration that values.yaml has in comments.
EXAMPLE: dict[str, Any] = yaml.safe_load(
    "\n".join(
        re.findall(r"(?m)^  # (.*)$", VALUES.partition("config: {}\n")[2].partition("\n\n")[0])
    )
)
GIVEN = {"secret.existingSecret": "mine"}
ALL = {
    **GIVEN,
    "autoscaling.enabled": "true",
    "serviceMonitor.enabled": "true",
    "serviceMonitor.labels.release": "prometheus",
    "tls.secretName": "cert",
    "persistence.existingClaim": "claim",
    "image.digest": "sha256:" + "0" * 64,
    "podAnnotations.a": "b",
    "podLabels.a": "b",
    "nodeSelector.a": "b",
}


def words(values: Mapping[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def helm(
    command: Sequence[str | Path],
    values: Mapping[str, str],
    config: Mapping[str, Any] = EXAMPLE,
    *,
    ok: bool = True,
) -> str:
    given = ("--values", "-", *words(values))
    text = yaml.safe_dump({"config": config})
    return run(tool("helm", HELM), *command, CHART, *given, input=text, ok=ok)


def rendered(
    values: Mapping[str, str] = GIVEN, config: Mapping[str, Any] = EXAMPLE
) -> dict[str, dict[str, Any]]:
    """Each object by its kind and name."""
    text = helm(("template", "visiongate"), values, config)
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in yaml.safe_load_all(text) if o}


def pod(objects: Mapping[str, Any]) -> Any:
    return objects["Deployment/visiongate"]["spec"]["template"]["spec"]


def config_of(objects: Mapping[str, Any]) -> Config:
    text = objects["ConfigMap/visiongate"]["data"]["visiongate.yaml"]
    return parse_config(text, "visiongate.yaml", ENV)


def test_lint() -> None:
    """`helm lint --strict` has no complaint."""
    assert "0 chart(s) failed" in helm(("lint", "--strict"), GIVEN)


@pytest.mark.parametrize("values", [GIVEN, ALL], ids=["few", "all"])
@pytest.mark.parametrize("version", ["1.27", "1.33"])
def test_kubernetes(values: Mapping[str, str], version: str) -> None:
    """Every object is one of Kubernetes', to the last key; ServiceMonitor is of another project."""
    objects = rendered(values)
    assert len(objects) == (7 if values is GIVEN else 9)
    for name, each in objects.items():
        if not name.startswith("ServiceMonitor/"):
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("values", [GIVEN, ALL], ids=["few", "all"])
def test_the_configuration(values: Mapping[str, str]) -> None:
    """What is made of the values is a configuration that the gateway takes, on the pod's ports."""
    objects = rendered(values)
    config = config_of(objects)
    (container,) = pod(objects)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"public": config.server.port, "admin": config.admin.port}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.store.data) in mounts
    assert (config.server.tls is not None) is ("tls.secretName" in values)
    if config.server.tls:
        assert str(config.server.tls.cert.parent) in mounts


@pytest.mark.parametrize("drain", [30, 300])
def test_time_to_drain(drain: int) -> None:
    """A pod has its drain, five seconds before and twenty after it, whatever the drain is."""
    objects = rendered({**GIVEN, "drainSeconds": str(drain)})
    assert config_of(objects).server.drain == drain
    assert pod(objects)["terminationGracePeriodSeconds"] == drain + 25


def test_restricted() -> None:
    """A pod is what the restricted Pod Security Standard asks for, and more.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    spec = pod(rendered())
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_secrets() -> None:
    """The ConfigMap has references alone; a Secret of one's own is used and none is made."""
    objects = rendered()
    text = objects["ConfigMap/visiongate"]["data"]["visiongate.yaml"]
    wanted = {"REDIS_URL", "VISIONGATE_KEY_PEPPER", "OPENAI_API_KEY"}
    assert set(re.findall(r"\$\{(\w+)\}", text)) == wanted
    assert not any(name.startswith("Secret/") for name in objects)
    (container,) = pod(objects)["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]
    made = rendered({"secret.data.OPENAI_API_KEY": "sk-1"})
    assert made["Secret/visiongate"]["stringData"] == {"OPENAI_API_KEY": "sk-1"}


def test_streams_scale() -> None:
    """The autoscaler goes by a metric that the gateway has, and leaves the replicas alone."""
    objects = rendered(ALL)
    spec = objects["HorizontalPodAutoscaler/visiongate"]["spec"]
    name = spec["metrics"][0]["pods"]["metric"]["name"].removeprefix("visiongate_")
    assert f'"{name}"' in (CHART.parents[2] / "proxy" / "metrics.py").read_text()
    assert "replicas" not in objects["Deployment/visiongate"]["spec"]


def test_a_changed_configuration_rolls_out() -> None:
    """Pods are made anew when the configuration changes."""

    def annotations(values: Mapping[str, str]) -> Any:
        template = rendered(values)["Deployment/visiongate"]["spec"]["template"]
        return template["metadata"]["annotations"]

    changed = {**GIVEN, "config.server.support": "ask us"}
    assert annotations(GIVEN) == annotations(GIVEN)
    assert annotations(changed) != annotations(GIVEN)


def test_the_admin_port_is_not_public() -> None:
    """The service that may be a load balancer has the public port alone."""
    objects = rendered({**GIVEN, "service.type": "LoadBalancer"})
    ports = objects["Service/visiongate"]["spec"]["ports"]
    assert [port["name"] for port in ports] == ["public"]
    assert objects["Service/visiongate-admin"]["spec"]["type"] == "ClusterIP"
    _, admin = objects["NetworkPolicy/visiongate"]["spec"]["ingress"]
    assert admin["from"] == read(CHART / "values.yaml")["networkPolicy"]["monitoring"]


def test_nobody_is_not_everybody() -> None:
    """To Kubernetes an empty list of peers or of ports is all of them: where it is given, there is
    no such rule.
    """
    values = {"networkPolicy": {"monitoring": [], "providerPorts": []}}
    text = yaml.safe_dump({**values, "config": EXAMPLE})
    objects = run(
        tool("helm", HELM),
        *("template", CHART, "--show-only", "templates/networkpolicy.yaml"),
        *("--values", "-", *words(GIVEN)),
        input=text,
    )
    spec = yaml.safe_load(objects)["spec"]
    assert [[p["port"] for p in rule["ports"]] for rule in spec["ingress"]] == [["public"]]
    assert [[p["port"] for p in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [6379]]


@pytest.mark.parametrize(
    ("values", "words_of"),
    [
        ({}, "set secret.existingSecret"),
        ({**GIVEN, "replicaCount": "0"}, "/replicaCount"),
        ({**GIVEN, "drainSeconds": "0"}, "/drainSeconds"),
        ({**GIVEN, "config.server.drain": "5s"}, "/config/server"),
        ({**GIVEN, "config.admin.host": "::1"}, "/config/admin"),
        ({**GIVEN, "config.store.url": "embedded"}, "/config/store/url"),
        ({**GIVEN, "image.digest": "latest"}, "/image/digest"),
        ({**GIVEN, "replicas": "3"}, "replicas"),
    ],
)
def test_wrong_values(values: Mapping[str, str], words_of: str) -> None:
    """What cannot work is refused before anything is installed, with its place."""
    assert words_of in helm(("template", "visiongate"), values, ok=False)


@pytest.mark.parametrize("missing", ["store", "providers", "models"])
def test_a_missing_block(missing: str) -> None:
    """A configuration of one's own has to have what no configuration can do without."""
    config = {name: block for name, block in EXAMPLE.items() if name != missing}
    told = helm(("template", "visiongate"), GIVEN, config, ok=False)
    assert f"missing property '{missing}'" in told


def test_a_configuration_of_ones_own() -> None:
    """Nothing of the example is added to a configuration of one's own."""
    own = {
        "store": {"url": "redis://h"},
        "keys": {"pepper": "p" * 16},
        "providers": {"mine": {"base_url": "https://m.example/v1", "api_key": "k"}},
        "models": {"m": {"targets": [{"provider": "mine"}], "max_output": 9, "vision": False}},
    }
    config = config_of(rendered(config=own))
    assert (list(config.providers), list(config.models)) == (["mine"], ["m"])
    assert not config.plans["default"].limits


@pytest.mark.parametrize("peers", [None, [{"ipBlock": {"cidr": "10.1.2.3/32"}}]])
def test_the_stores_place(peers: list[dict[str, Any]] | None) -> None:
    """The store may be anywhere, in the cluster or not, unless its place is named."""
    named = {"networkPolicy.store[0].ipBlock.cidr": "10.1.2.3/32"} if peers else {}
    spec = rendered({**GIVEN, **named})["NetworkPolicy/visiongate"]["spec"]
    (store,) = [each for each in spec["egress"] if each["ports"][0]["port"] == 6379]
    assert store.get("to") == peers


def test_ipv6_alone() -> None:
    """Both listeners listen on the host that the values name."""
    config = config_of(rendered({**GIVEN, "listenHost": "::"}))
    assert (config.server.host, config.admin.host) == ("::", "::")


@pytest.mark.parametrize(("drain", "window"), [("300", 300), ("7200", 3600)])
def test_the_autoscalers_window(drain: str, window: int) -> None:
    """It is the drain, or the longest that Kubernetes takes.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/ (HPAScalingRules)
    """
    objects = rendered({**ALL, "drainSeconds": drain})
    behavior = objects["HorizontalPodAutoscaler/visiongate"]["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == window

"""cluster.yaml and what stands beside it, without a cloud: Ray's own checks, and EC2 as moto plays it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.profile import load_profile

PROJECT = Path(__file__).parents[2]
CLUSTER = PROJECT / "cluster.yaml"
RENTED = {"cloud_spot", "cloud_od", "large_spot", "large_od"}


@pytest.fixture
def raw() -> dict[str, Any]:
    found = dict(yaml.safe_load(CLUSTER.read_text()))
    del found["provider"]["gcs_address"]  # there is no head to tell anything
    return found


@pytest.fixture
def prepared(raw: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    return dict(prepare_config(raw))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """EC2 in this process, in which the file's network and image exist."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-northeast-2")
    monkeypatch.setenv("HOME", str(tmp_path))
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    with moto.mock_aws():
        boto3.client("iam").create_instance_profile(InstanceProfileName="megacity-node")
        client = boto3.client("ec2", region_name="ap-northeast-2")
        client.create_key_pair(KeyName="megacity")
        yield client


def test_ray_accepts_the_file(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_ray_refuses_a_misspelt_key(raw: dict[str, Any]) -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    raw["available_node_types"]["cloud_spot"]["idle_timeout"] = 180
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(raw))


def test_autoscaler_v2_reads_types_labels_and_times(raw: dict[str, Any]) -> None:
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    raw["file_mounts"], raw["auth"] = {}, {}  # files of the head, which would be read
    types = AutoscalingConfig(raw).get_node_type_configs()
    assert types.keys() == RENTED | {"head"}
    spot, later = types["cloud_spot"], types["cloud_od"]
    assert (spot.priority, later.priority) == (50, 10)
    assert {types[name].idle_timeout_s for name in RENTED} == {180}
    assert spot.labels == {"pool": "spot", "gpu": "l40s", "region": "kr"}
    assert all(types[name].resources == {"CPU": 8, "GPU": 1} for name in RENTED), "same shapes, told apart by labels"


def test_it_is_on_a_private_network_with_a_token(raw: dict[str, Any]) -> None:
    assert raw["provider"]["use_internal_ips"]
    starts = raw["head_start_ray_commands"] + raw["worker_start_ray_commands"]
    assert all("/etc/megacity/cluster.env" in command for command in starts)
    settings = dict(
        line.split("=", 1) for line in (PROJECT / "ops/onprem/cluster.env").read_text().splitlines() if "=" in line
    )
    assert settings["RAY_AUTH_MODE"] == "token"
    assert settings["RAY_AUTH_TOKEN_PATH"]
    assert settings["RAY_enable_autoscaler_v2"] == "1"
    assert "--require-hashes" in " ".join(raw["setup_commands"])
    for node_type in raw["available_node_types"].values():
        assert node_type["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_every_engine_of_the_profile_has_a_machine_to_run_on(raw: dict[str, Any]) -> None:
    here = [{"pool": "onprem", "gpu": "rtx-5090", "region": "kr"}]
    machines = here + [one["labels"] for name, one in raw["available_node_types"].items() if name in RENTED]
    for name, entry in load_profile("cluster").settings.engines.items():
        for wanted in entry.placement:
            assert any(wanted.items() <= labels.items() for labels in machines), f"{name}: {wanted}"


def _network(cloud: Any, node_config: dict[str, Any]) -> dict[str, Any]:
    """The same machine in the network that moto has."""
    zones = [{"Name": "availability-zone", "Values": ["ap-northeast-2a", "ap-northeast-2c"]}]
    subnets = cloud.describe_subnets(Filters=zones)["Subnets"]
    image = cloud.describe_images()["Images"][0]["ImageId"]
    group = cloud.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    return node_config | {
        "SubnetIds": [one["SubnetId"] for one in subnets],
        "ImageId": image,
        "SecurityGroupIds": [group],
        "IamInstanceProfile": {"Name": "megacity-node"},
    }


@pytest.mark.cluster
def test_bootstrap_leaves_the_network_alone(prepared: dict[str, Any], cloud: Any) -> None:
    from serve_app.cluster.provider import SpotFirstAWS

    for node_type in prepared["available_node_types"].values():
        node_type["node_config"] = _network(cloud, node_type["node_config"])
    Path(os.environ["HOME"], "cloud.pem").write_text("key")
    prepared["auth"]["ssh_private_key"] = str(Path(os.environ["HOME"], "cloud.pem"))
    done = SpotFirstAWS.bootstrap_config(prepared)
    for name in RENTED:
        ours, theirs = prepared["available_node_types"][name], done["available_node_types"][name]
        for key in ("SubnetIds", "SecurityGroupIds", "KeyName", "IamInstanceProfile"):
            assert theirs["node_config"][key] == ours["node_config"][key]


def test_spot_machines_are_rented_and_given_back(raw: dict[str, Any], cloud: Any) -> None:
    from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

    from serve_app.cluster.provider import SpotFirstAWS

    provider = SpotFirstAWS(raw["provider"], "megacity")
    config = _network(cloud, raw["available_node_types"]["cloud_spot"]["node_config"])
    tags = {TAG_RAY_USER_NODE_TYPE: "cloud_spot", "ray-node-kind": "worker", "ray-node-name": "x"}
    for _ in range(2):
        provider.create_node_with_resources_and_labels(config, tags, 1, {}, {})
    nodes = provider.non_terminated_nodes({})
    assert _markets(cloud) == ["spot", "spot"]
    assert all(provider.node_tags(node)[TAG_RAY_USER_NODE_TYPE] == "cloud_spot" for node in nodes)
    provider.terminate_nodes(nodes)
    assert provider.non_terminated_nodes({}) == []


def test_what_is_missing_of_several_is_rented_on_demand(raw: dict[str, Any], cloud: Any) -> None:
    """moto fills no more than `MinCount`, which Ray sets to 1: as EC2 does when there is only one left."""
    from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

    from serve_app.cluster.provider import SpotFirstAWS

    provider = SpotFirstAWS(raw["provider"], "megacity")
    config = _network(cloud, raw["available_node_types"]["cloud_spot"]["node_config"])
    tags = {TAG_RAY_USER_NODE_TYPE: "cloud_spot", "ray-node-kind": "worker", "ray-node-name": "x"}
    provider.create_node_with_resources_and_labels(config, tags, 2, {}, {})
    assert _markets(cloud) == ["spot", "ondemand"]


def test_sold_out_spot_is_rented_on_demand(raw: dict[str, Any], cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2's refusal, as botocore raises it and Ray's AWS provider wraps it."""
    import botocore.client
    from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

    from serve_app.cluster.provider import SpotFirstAWS

    plain = botocore.client.BaseClient._make_api_call

    def refuse(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "RunInstances" and "InstanceMarketOptions" in parameters:
            said = {"Error": {"Code": "InsufficientInstanceCapacity", "Message": "no spot"}}
            raise botocore.exceptions.ClientError(said, operation)
        return plain(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    provider = SpotFirstAWS(raw["provider"], "megacity")
    config = _network(cloud, raw["available_node_types"]["cloud_spot"]["node_config"])
    tags = {TAG_RAY_USER_NODE_TYPE: "cloud_spot", "ray-node-kind": "worker", "ray-node-name": "x"}
    provider.create_node_with_resources_and_labels(config, tags, 1, {}, {})
    assert _markets(cloud) == ["ondemand"]


def _markets(cloud: Any) -> list[str]:
    reservations = cloud.describe_instances()["Reservations"]
    found = [instance for one in reservations for instance in one["Instances"]]
    return ["spot" if one.get("InstanceLifecycle") == "spot" else "ondemand" for one in found]


OBJECT: dict[str, Any] = {"type": "object"}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
CONTAINER = {
    "type": "object",
    "required": ["name", "image"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "image": {"type": "string"},
        "env": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        "envFrom": {"type": "array"},
        "volumeMounts": {"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
        "resources": {"type": "object", "properties": {"limits": TEXTS, "requests": TEXTS}},
    },
    "additionalProperties": False,
}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "metadata": OBJECT,
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
                "volumes": {"type": "array"},
                "nodeSelector": TEXTS,
                "tolerations": {"type": "array"},
                "terminationGracePeriodSeconds": COUNT,
            },
            "additionalProperties": False,
        },
    },
}
HEAD_GROUP = {
    "type": "object",
    "required": ["rayStartParams", "template"],
    "properties": {
        "serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        "rayStartParams": TEXTS,
        "template": POD,
        "headService": OBJECT,
        "enableIngress": {"type": "boolean"},
    },
    "additionalProperties": False,
}
WORKER_GROUP = {
    "type": "object",
    "required": ["groupName", "rayStartParams", "template", "maxReplicas", "minReplicas"],
    "properties": {
        "groupName": {"type": "string"},
        **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "numOfHosts"), COUNT),
        "rayStartParams": TEXTS,
        "template": POD,
        "suspend": {"type": "boolean"},
        "scaleStrategy": OBJECT,
    },
    "additionalProperties": False,
}
AUTOSCALER = {
    "type": "object",
    "properties": {
        "version": {"enum": ["v1", "v2"]},
        "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
        "idleTimeoutSeconds": COUNT,
        "env": {"type": "array"},
        "envFrom": {"type": "array"},
        "volumeMounts": {"type": "array"},
        **dict.fromkeys(("resources", "securityContext"), OBJECT),
        **{key: {"type": "string"} for key in ("image", "imagePullPolicy")},
    },
    "additionalProperties": False,
}
RAY_CLUSTER = {
    "type": "object",
    "required": ["headGroupSpec"],
    "properties": {
        "rayVersion": {"type": "string"},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": AUTOSCALER,
        "headGroupSpec": HEAD_GROUP,
        "workerGroupSpecs": {"type": "array", "items": WORKER_GROUP},
        "gcsFaultToleranceOptions": TEXTS,
        "headServiceAnnotations": TEXTS,
        "suspend": {"type": "boolean"},
        "managedBy": {"type": "string"},
    },
    "additionalProperties": False,
}
RAY_SERVICE = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayService"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["rayClusterConfig", "serveConfigV2"],
            "properties": {
                "serveConfigV2": {"type": "string"},
                "upgradeStrategy": {"type": "object", "properties": {"type": {"enum": ["NewCluster", "None"]}}},
                "rayClusterConfig": RAY_CLUSTER,
                "serveService": OBJECT,
                "excludeHeadPodFromServeSvc": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
"""The part of KubeRay's schema (ray.io/v1) that the file uses, written from its field reference: not the operator's
own file, so it proves the shape and not that an operator takes it."""


def test_kuberay_has_the_same_shape(raw: dict[str, Any]) -> None:
    import jsonschema

    document = yaml.safe_load((PROJECT / "ops/kuberay/rayservice.yaml").read_text())
    jsonschema.validate(document, RAY_SERVICE)
    cluster = document["spec"]["rayClusterConfig"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    groups = {group["groupName"]: group["rayStartParams"]["labels"] for group in cluster["workerGroupSpecs"]}
    for name, node_type in (("spot", "cloud_spot"), ("ondemand", "cloud_od")):
        labels = raw["available_node_types"][node_type]["labels"]
        assert dict(pair.split("=") for pair in groups[name].split(",")) == labels
    environment = {
        one["name"]: one["value"] for one in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["RAY_AUTH_MODE"] == "token"


def test_units_start_ray_in_the_foreground_with_the_token(raw: dict[str, Any]) -> None:
    for name in ("head", "worker"):
        unit = (PROJECT / f"ops/onprem/megacity-{name}.service").read_text()
        assert "EnvironmentFile=/etc/megacity/cluster.env" in unit
        assert "--block" in unit
        assert "labels=pool=onprem" in unit
    assert "RAY_CLOUD_INSTANCE_ID" not in (PROJECT / "ops/onprem/megacity-worker.service").read_text()


def test_the_head_keeps_its_state_in_its_own_redis() -> None:
    units = {name: (PROJECT / f"ops/onprem/megacity-{name}.service").read_text() for name in ("head", "state")}
    assert "RAY_REDIS_ADDRESS=127.0.0.1:6390" in units["head"]
    assert "Requires=megacity-state.service" in units["head"]
    assert "--bind 127.0.0.1 --port 6390" in units["state"]
    assert "--appendonly yes" in units["state"]


def test_the_head_on_kubernetes_finds_its_state() -> None:
    service, redis, policy = yaml.safe_load_all((PROJECT / "ops/kuberay/state.yaml").read_text())
    ray = yaml.safe_load((PROJECT / "ops/kuberay/rayservice.yaml").read_text())["spec"]["rayClusterConfig"]
    address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert ray["gcsFaultToleranceOptions"]["redisAddress"] == address
    assert redis["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]

"""A cloud on this machine: Ray's own fake provider, with an order book that a test can edit while it runs."""

import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_FAKE_CLUSTER", "1")

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from serve_app.cluster.provider import MARKET, SpotFirst
from serve_app.cluster.stock import StockRules


class Cloud(FakeMultiNodeProvider):
    """Refuses what the file `sold_out` in its folder names (spot, ondemand), and writes down what it was asked."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._folder = Path(provider_config["folder"])

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: Any, labels: Any
    ) -> None:
        market = "spot" if MARKET in node_config else "ondemand"
        sold_out = (self._folder / "sold_out").read_text().split()
        self._note("refused" if market in sold_out else "launched", market, tags[TAG_RAY_USER_NODE_TYPE], count)
        if market in sold_out:
            raise RuntimeError("An error occurred (InsufficientInstanceCapacity) when calling RunInstances")
        before = set(self._nodes)
        super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
        self._write_pids(set(self._nodes) - before, market)

    def terminate_node(self, node_id: str) -> None:
        self._note("terminated", "", node_id, 1)
        super().terminate_node(node_id)

    def terminate_nodes(self, node_ids: list[str]) -> None:
        for node_id in node_ids:
            self.terminate_node(node_id)

    def _note(self, what: str, market: str, of: str, count: int) -> None:
        with (self._folder / "orders.jsonl").open("a") as file:
            file.write(json.dumps({"t": time.time(), "what": what, "market": market, "of": of, "count": count}) + "\n")

    def _write_pids(self, nodes: set[str], market: str) -> None:
        """What a machine's own agent would know: the process to stop."""
        for node_id in nodes:
            processes = self._nodes[node_id]["node"].all_processes
            pids = [info.process.pid for infos in processes.values() for info in infos]
            (self._folder / f"{node_id}.json").write_text(json.dumps({"pids": pids, "market": market}))


class Plain(Cloud):
    """As Ray has it: what is sold out is asked for again and again."""


class Falling(SpotFirst):
    """The same cloud behind our provider."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        rules = StockRules(**provider_config["fallback"])
        super().__init__(Cloud(provider_config, cluster_name), rules, provider_config["gcs_address"])

    @staticmethod
    def bootstrap_config(cluster_config: Any) -> Any:
        return cluster_config

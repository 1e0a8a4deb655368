"""Where rented machines come from: spot as long as there is any, on demand while there is none, and back again.

Ray's autoscaler asks for the same node type for ever if a launch is refused at once, so the choice is made below it:
the machine joins as the type that was asked for, and only the way it is paid for is another. In a cluster file:

    provider:
      type: external
      module: serve_app.cluster.provider.SpotFirstAWS
      gcs_address: 127.0.0.1:6379
      fallback: {cooldown_s: 300}
"""

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE
from ray.core.generated import common_pb2

from serve_app.cluster import state
from serve_app.cluster.stock import Stock, StockRules

MARKET = "InstanceMarketOptions"
CAPACITY = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "SpotMaxPriceTooLow",
    "MaxSpotInstanceCountExceeded",
    "UnfulfillableCapacity",
    "Unsupported",  # this instance type is not sold in this zone
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
)
"""EC2's codes for a request that is right and cannot be met now."""

logger = logging.getLogger(__name__)


class SoldOut(Exception):
    """Nothing was launched, and asking again at once would not help. Ray asks again by itself."""


class SpotFirst:
    """Any node provider of Ray's, with another way to launch. Everything else is the inner provider's own.

    `gcs_address` is the head's, for `megacity status`; without it nothing is told.
    """

    def __init__(self, inner: Any, rules: StockRules, gcs_address: str | None = None) -> None:
        self._inner = inner
        self._stock = Stock(rules)
        self._gcs_address = gcs_address
        self._client: Any = None
        self._told: dict[str, Any] = {}
        self._lock = threading.Lock()  # Ray launches from several threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        """Launch `count` machines. Raises `SoldOut` if none can be had, and what the inner provider raises else."""
        node_type = tags[TAG_RAY_USER_NODE_TYPE]
        pause_s = self._stock.paused_s(node_type)
        if pause_s:
            raise SoldOut(f"{node_type}: put off for {pause_s:.0f} s more")
        missing = count
        with self._lock:
            if MARKET in node_config and self._stock.has_spot(node_type):
                missing -= self._launch("spot", node_config, tags, count, resources, labels)
                if missing:
                    self._stock.spot_refused(node_type)
                    logger.warning("%s: spot is sold out, %d on demand instead", node_type, missing)
            if missing and not self._launch("ondemand", on_demand(node_config), tags, missing, resources, labels):
                self._stock.all_refused(node_type)
            elif missing:
                missing = 0
        self._tell()
        if missing == count:
            raise SoldOut(f"{node_type}: neither spot nor on demand can be had")

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        nodes: list[str] = self._inner.non_terminated_nodes(tag_filters)
        if not tag_filters:
            types = ((node, self._inner.node_tags(node).get(TAG_RAY_USER_NODE_TYPE, "")) for node in nodes)
            self._stock.alive([(node, node_type) for node, node_type in types if node_type])
            self._tell()
        return nodes

    def terminate_node(self, node_id: str) -> Any:
        return self.terminate_nodes([node_id])

    def terminate_nodes(self, node_ids: list[str]) -> Any:
        for node_id in node_ids:
            self._stock.let_go(node_id, failed=self._ray_died(node_id))
        return self._inner.terminate_nodes(node_ids)

    def _launch(
        self, market: str, config: dict[str, Any], tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> int:
        """How many were launched: fewer than asked for, or none, if there are no more."""
        try:
            made = self._inner.create_node_with_resources_and_labels(config, tags, count, resources, labels)
        except Exception as error:  # each cloud's library has exceptions of its own
            if not is_capacity(error):
                raise
            return 0
        launched = len(made) if isinstance(made, dict) else count
        self._stock.launched(tags[TAG_RAY_USER_NODE_TYPE], market, launched)
        return launched

    def _ray_died(self, node_id: str) -> bool:
        """Whether a machine is ended because its Ray has died, which Ray's autoscaler does not tell."""
        unexpected = common_pb2.NodeDeathInfo.UNEXPECTED_TERMINATION
        nodes = self._with_head(lambda gcs: gcs.get_all_node_info(timeout=5).values(), ())
        return any(node.instance_id == node_id and node.death_info.reason == unexpected for node in nodes)

    def _tell(self) -> None:
        types = self._stock.state()
        if types != self._told and self._with_head(lambda gcs: _tell(gcs, types), False):
            self._told = types

    def _with_head(self, ask: Callable[[Any], Any], otherwise: Any) -> Any:
        if self._gcs_address is None:
            return otherwise
        try:
            self._client = self._client or GcsClient(address=self._gcs_address)
            return ask(self._client)
        except Exception as error:  # noqa: BLE001 - telling and asking must not keep a machine from starting or ending
            logger.warning("the head did not answer: %s", type(error).__name__)
            return otherwise


class SpotFirstAWS(SpotFirst):
    """On EC2: a node type with `InstanceMarketOptions` is asked for on spot first."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        config = copy.deepcopy(provider_config)
        rules = StockRules(**config.pop("fallback", {}))
        super().__init__(_aws()(config, cluster_name), rules, config.get("gcs_address"))

    max_terminate_nodes: ClassVar[int] = 1000

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> Any:
        return _aws().bootstrap_config(cluster_config)

    @staticmethod
    def fillout_available_node_types_resources(cluster_config: dict[str, Any]) -> Any:
        return _aws().fillout_available_node_types_resources(cluster_config)


def on_demand(node_config: dict[str, Any]) -> dict[str, Any]:
    """The same machine, paid by the hour."""
    return {key: copy.deepcopy(value) for key, value in node_config.items() if key != MARKET}


def is_capacity(error: BaseException) -> bool:
    """Whether an error says that a machine cannot be had, by EC2's code or Ray's word for it."""
    category = getattr(error, "category", None)
    said = category if isinstance(category, str) else str(error)
    return any(code in said for code in CAPACITY)


def _tell(gcs: Any, types: dict[str, Any]) -> bool:
    state.publish(gcs, "stock", {"types": types})
    return True


def _aws() -> Any:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    return AWSNodeProvider

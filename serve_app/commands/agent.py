"""`megacity agent`: stays beside a machine's Ray, and drains it before the machine goes."""

import argparse
import logging
import socket
from pathlib import Path

from serve_app.cluster import signs
from serve_app.cluster.agent import Agent, Head, Node
from serve_app.cluster.signs import SpotNotice, Ups, Watcher, apcaccess, upsc
from serve_app.errors import ConfigError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--head", required=True, metavar="HOST:PORT", help="the head of the Ray cluster")
    process = parser.add_mutually_exclusive_group(required=True)
    process.add_argument("--pid", type=int, help="this machine's `ray start --block`, which is stopped at the end")
    process.add_argument("--pid-file", type=Path, metavar="FILE", help="a file that holds its process id")
    parser.add_argument(
        "--node-id", metavar="HEX", help="this machine in the cluster (default: the one with its address)"
    )
    parser.add_argument("--address", metavar="IP", help="this machine's address there (default: towards the head)")
    parser.add_argument("--spot", action="store_true", help="watch the cloud's notice")
    parser.add_argument("--spot-url", default=signs.METADATA_URL, metavar="URL", help="the instance metadata")
    parser.add_argument("--ups", choices=("apcupsd", "nut"), help="watch a UPS with apcaccess or upsc")
    parser.add_argument("--ups-name", default="ups", metavar="NAME", help="NUT's name of it (default: ups)")
    parser.add_argument("--ups-percent", type=float, default=signs.LEAST_CHARGE, metavar="N", help="default: 20")
    parser.add_argument("--gpu", action="store_true", help="watch the GPUs, if pynvml is installed")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="seconds between looks (default: 5)")


def run(options: argparse.Namespace) -> dict[str, str]:
    """Watch until the machine goes, and say why it went."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if options.every <= 0:
        raise ConfigError("--every must be above 0")
    watching = _watchers(options)
    head = Head(options.head)
    node = Node(options.head, options.node_id or _own_id(head, options), _pid(options))
    sign = Agent(node, head, watching, options.every).run()
    return {"node": node.node_id, "ended": sign.reason if sign else "the node's Ray ended by itself"}


def _watchers(options: argparse.Namespace) -> list[Watcher]:
    found: list[Watcher] = []
    if options.spot:
        found.append(SpotNotice(options.spot_url))
    if options.ups == "apcupsd":
        found.append(Ups(["apcaccess"], apcaccess, options.ups_percent))
    if options.ups == "nut":
        found.append(Ups(["upsc", options.ups_name], upsc, options.ups_percent))
    if options.gpu and (watcher := signs.gpus()):
        found.append(watcher)
    if not found:
        raise ConfigError("there is nothing to watch; give --spot, --ups or --gpu (which needs a driver and pynvml)")
    return found


def _pid(options: argparse.Namespace) -> int:
    if options.pid is not None:
        return int(options.pid)
    try:
        return int(options.pid_file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--pid-file {options.pid_file.name}: it holds no process id") from error


def _own_id(head: Head, options: argparse.Namespace) -> str:
    try:
        return head.node_at(options.address or _address_towards(options.head))
    except (LookupError, OSError, RuntimeError) as error:
        raise ConfigError(f"this machine is not known to the head at {options.head}: {error}") from error


def _address_towards(head: str) -> str:
    """The address with which this machine would speak to the head; nothing is sent."""
    host, _, port = head.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))
        return str(probe.getsockname()[0])

"""A Ray cluster of two nodes with an engine on the second one, which is sent files from the first."""

import asyncio
import json
import os
import sys
from pathlib import Path

import ray
from ray import serve
from ray.cluster_utils import Cluster

from serve_app import fleet
from serve_app.config import EngineEntry
from serve_app.host import carrier
from serve_app.services.spool import Spool
from serve_app.types import Artifact, Job, Kind, Media, Pose

SIZES = (0, 1, 20_000_003)


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1, labels={"pool": "far"})
    ray.init(cluster.address, namespace="serve", log_to_driver=False, configure_logging=False)
    entry = EngineEntry(engine="tests.cluster.weighing:Scale", placement=[{"pool": "far"}], slots=4)
    try:
        handle = serve.run(fleet.hosts({"scale": entry})["scale"], name="megacity", route_prefix=None)
        Path(sys.argv[2]).write_text(json.dumps(asyncio.run(_sent(handle))))
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


async def _sent(handle: serve.handle.DeploymentHandle) -> list[dict[str, object]]:
    spool = Spool(Path(sys.argv[1]))
    run = carrier("scale", handle)
    files = [await _file(spool, size) for size in SIZES]
    found = await asyncio.gather(*(_weighed(run, file) for file in files))
    return [{**one, "sent": file.sha256, "gone": not os.path.exists(str(one["path"]))}
            for one, file in zip(found, files, strict=True)]  # fmt: skip


async def _file(spool: Spool, size: int) -> Media:
    file = spool.file()
    await file.write(os.urandom(size))
    return file.media("video/mp4")


async def _weighed(run: object, file: Media) -> dict[str, object]:
    job = Job("j", Kind.POSE, Pose(file))
    async for event in run(job):  # type: ignore[operator]
        if isinstance(event, Artifact):
            found = dict(json.loads(event.data))
            found["other_path"] = found["path"] != file.path
    return found


if __name__ == "__main__":
    main()

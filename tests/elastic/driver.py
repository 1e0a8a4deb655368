"""`driver.py ADDRESS deploy|replicas`: a driver of its own process, because drivers end with their head.

`deploy` reads a profile's document from standard input; `replicas` writes the process of every running one, by engine.
"""

import json
import sys

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema


def main() -> None:
    address, task = sys.argv[1:]
    ray.init(address, namespace="serve", log_to_driver=False, configure_logging=False)
    if task == "deploy":
        serve.start(proxy_location="Disabled")
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(json.load(sys.stdin)))
        return
    deployments = _get_global_client().get_serve_details()["applications"].get("megacity", {}).get("deployments", {})
    running = {
        name: [one["pid"] for one in deployment["replicas"] if one["state"] == "RUNNING"]
        for name, deployment in deployments.items()
    }
    json.dump(running, sys.stdout)


if __name__ == "__main__":
    main()

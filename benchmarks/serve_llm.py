"""Ray's own serving of language models with the nano tutor, as its documentation shows it: `benchmarks/vllm.py` starts
it on a port, with the same settings of vLLM as the others. It takes `pyarrow` beside what `make test-vllm` installs."""

import signal
import sys
from pathlib import Path

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

MODEL = Path(__file__).parents[1] / "models" / "nano-tutor"


def main(port: int) -> None:
    # its replicas ask for more CPUs than a small machine has
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    tutor = LLMConfig(
        model_loading_config={"model_id": "nano-tutor", "model_source": str(MODEL)},
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundles": [{"CPU": 1}]},
        deployment_config={"num_replicas": 1},
        engine_kwargs={
            "enforce_eager": True,
            "enable_prefix_caching": True,
            "scheduling_policy": "priority",
            "max_num_seqs": 16,
            "kv_cache_memory_bytes": 2**29,
        },
    )
    ingress = {"num_replicas": 1, "autoscaling_config": None}
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [tutor], "ingress_deployment_config": ingress}))
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main(int(sys.argv[1]))

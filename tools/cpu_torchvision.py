"""Lets torchvision be imported beside a torch without CUDA.

The published torchvision brings operators that link to CUDA, and its import looks for two of them by name. Where they
cannot load, their names are declared first; nothing calls them. `make test-vllm` puts this module into its environment,
with a `.pth` file that has every Python there run it at its start.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class BeforeTorchvision(MetaPathFinder):
    """Steps in once, when torchvision is about to be imported, and finds nothing itself."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare()
        return None


def declare() -> None:
    import torch

    if torch.version.cuda is None:
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", SCHEMA)


sys.meta_path.insert(0, BeforeTorchvision())

"""Generate the gRPC code from `serve_app/api/proto/megacity.proto`: `python -m tools.proto`."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "serve_app/api/proto/megacity.proto"  # from the root, so that the generated imports name the package


def generate(into: Path = ROOT) -> int:
    """Write `megacity_pb2.py`, `.pyi` and `megacity_pb2_grpc.py` below `into`; returns protoc's exit code."""
    well_known = files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    code: int = protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *outputs, SOURCE])
    return code


if __name__ == "__main__":
    sys.exit(generate())

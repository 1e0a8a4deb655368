"""The committed gRPC code is what its source generates."""

from pathlib import Path

from tools.proto import ROOT, generate

PACKAGE = Path("serve_app/api/proto")


def test_generated_code_is_current(tmp_path: Path) -> None:
    assert generate(tmp_path) == 0
    made = sorted((tmp_path / PACKAGE).iterdir())
    assert [file.name for file in made] == ["megacity_pb2.py", "megacity_pb2.pyi", "megacity_pb2_grpc.py"]
    for file in made:
        assert file.read_text() == (ROOT / PACKAGE / file.name).read_text(), f"run `make proto`: {file.name} is stale"

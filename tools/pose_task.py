"""Assembles `models/pose-full/pose.task` from the two networks that the MediaPipe 0.10.21 wheel carries.

    pip download mediapipe==0.10.21 --no-deps
    python -m tools.pose_task mediapipe-0.10.21-*.whl

MediaPipe's Tasks take a zip of the detector and the landmark network, each with metadata that says how its input is
normalised. The wheel's networks lack that metadata, so it is added here, by the schema that MediaPipe itself ships.
The same wheel always gives the same bytes.
"""

import argparse
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

ALIGNMENT = 16  # bytes; MediaPipe copies a network that is not aligned so in memory
DATE = (1980, 1, 1, 0, 0, 0)
LICENSE = "mediapipe-0.10.21.dist-info/LICENSE"
FOLDER = Path(__file__).parents[1] / "models" / "pose-full"
RESULT = "855ccc852f3c427d42248f4267175f86c40ff5b6ec0d963bf70959573c77950c"
# network in the wheel, its SHA-256, its name in the task, mean and standard deviation of the input's pixels
NETWORKS = (
    (
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        "pose_detector.tflite",
        (127.5, 127.5),
    ),
    (
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        "pose_landmarks_detector.tflite",
        (0.0, 255.0),
    ),
)


def assemble(wheel: Path) -> bytes:
    """The task file. Raises ValueError for a wheel with other networks than the known ones."""
    entries = []
    with zipfile.ZipFile(wheel) as archive:
        for inside, sha256, name, (mean, deviation) in NETWORKS:
            network = archive.read(inside)
            if hashlib.sha256(network).hexdigest() != sha256:
                raise ValueError(f"{inside} is not the known network; take the wheel of mediapipe 0.10.21")
            entries.append((name, with_metadata(network, mean, deviation)))
    return aligned_zip(entries)


def with_metadata(network: bytes, mean: float, deviation: float) -> bytes:
    """The TFLite network with metadata that says: input = (pixel - mean) / deviation."""
    import flatbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(network)))
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = _metadata(mean, deviation)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    for each in model.buffers:
        each.Pack = _aligned(each, schema)  # the generated code aligns bytes by 1
    builder = flatbuffers.Builder(len(network))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def aligned_zip(entries: list[tuple[str, bytes]]) -> bytes:
    """A zip of stored entries, each of whose bytes begin at a multiple of `ALIGNMENT`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, DATE)
            begin = out.tell() + zipfile.sizeFileHeader + len(name)
            # An extra field is at least 4 bytes: its id, which readers skip, and its length.
            padding = -(begin + 4) % ALIGNMENT
            info.extra = b"\xff\xff" + padding.to_bytes(2, "little") + b"\0" * padding
            archive.writestr(info, data)
    return out.getvalue()


def _metadata(mean: float, deviation: float) -> bytes:
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    options = schema.NormalizationOptionsT()
    options.mean, options.std = [mean], [deviation]
    unit = schema.ProcessUnitT()
    unit.optionsType, unit.options = schema.ProcessUnitOptions.NormalizationOptions, options
    tensor = schema.TensorMetadataT()
    tensor.name, tensor.processUnits = b"image", [unit]
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    model = schema.ModelMetadataT()
    model.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"M001")
    return bytes(builder.Output())


def _aligned(buffer: Any, schema: Any) -> Any:
    def pack(builder: Any) -> Any:
        if buffer.data is not None and len(buffer.data):
            data = bytes(bytearray(buffer.data))
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            place = builder.EndVector()
        schema.BufferStart(builder)
        if buffer.data is not None and len(buffer.data):
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)

    return pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the wheel of mediapipe 0.10.21")
    arguments = parser.parse_args()
    task = assemble(arguments.wheel)
    if (sha256 := hashlib.sha256(task).hexdigest()) != RESULT:
        raise SystemExit(f"The task's SHA-256 is {sha256} and not {RESULT}; nothing was written.")
    (FOLDER / "pose.task").write_bytes(task)
    with zipfile.ZipFile(arguments.wheel) as archive:
        (FOLDER / "LICENSE").write_bytes(archive.read(LICENSE))
    print(f"{len(task)} bytes, sha256 {sha256}")


if __name__ == "__main__":
    main()

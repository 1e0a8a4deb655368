"""`megacity quantize`: a smaller checkpoint from a given one, with what it costs in accuracy.

The work is done by `tools/quantize/run.py` in an environment of its own, because llm-compressor pins torch and
transformers otherwise than serving does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from serve_app.errors import ConfigError, EngineFailed
from serve_app.policies.placement import FULL, HALF
from serve_app.services import checkpoints
from serve_app.services.home import home

REQUIREMENTS = checkpoints.PROJECT / "tools" / "quantize" / "requirements.txt"
PASSED_ON = ("method", "bits", "activations", "group", "calibration", "samples", "task", "items")
REPORT = "quantize.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a local checkpoint in safetensors")
    parser.add_argument("out", metavar="OUT", help="where the quantized one goes, with its report")
    parser.add_argument("--method", choices=("gptq", "awq"), required=True)
    parser.add_argument("--bits", type=int, choices=(4, 8), required=True, help="of the weights; awq has 4 only")
    parser.add_argument(
        "--activations", type=int, choices=(8, 16), default=16, help="bits of what flows between layers (default: 16)"
    )
    parser.add_argument(
        "--group", type=int, metavar="N", help="weights that share a scale (default: 128 if it divides)"
    )
    parser.add_argument("--calibration", metavar="FILE", help="texts, one a line (default: the task's own, if any)")
    parser.add_argument("--samples", type=int, default=256, metavar="N", help="texts to calibrate on (default: 256)")
    parser.add_argument("--task", metavar="nano-tutor|FILE", help="what accuracy is measured on, before and after")
    parser.add_argument("--items", type=int, default=1000, metavar="N", help="questions of the task (default: 1000)")
    parser.add_argument("--env", metavar="FOLDER", help="the tools' environment (default: quantize in MEGACITY_HOME)")
    parser.add_argument("--setup", action="store_true", help="make that environment first (some GB)")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")


def run(options: argparse.Namespace) -> Any:
    """The report, as data if `options.json` is set, else as text. Raises ConfigError and EngineFailed."""
    source, out = _source(options), Path(options.out).absolute()
    _check(options, source, out)
    python = _python(options)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        report = _quantize(options, python, source, part)
        (part / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return report if options.json else table(report)


def table(report: dict[str, Any]) -> str:
    before, after = report["before"], report["after"]
    kind = f"groups of {report['group']}" if report["group"] else "8-bit activations"
    lines = [
        f"{report['model']}: {report['method']}, {report['bits']} bits, {kind}, {report['samples']} texts, "
        f"{report['seconds']:.0f} s",
        f"  {'':<10} {'before':>14} {'after':>14}",
        f"  {'bytes':<10} {before['bytes']:>14,} {after['bytes']:>14,}   {report['bytes_ratio']:.3f} of the original",
    ]
    if "accuracy" in before:
        verdict = "reached" if report.get("reached") else "MISSED"
        lines += [
            f"  {'accuracy':<10} {before['accuracy']:>14.2%} {after['accuracy']:>14.2%}   "
            f"{report.get('accuracy_kept', 0):.4f} of the original, target {report.get('target', 0)}: {verdict}",
            f"  {'tokens/s':<10} {before['tokens_per_s']:>14.1f} {after['tokens_per_s']:>14.1f}   "
            "here, unpacked and without an engine",
            f"  {report['items']} questions of {report['task']}: {report['lost']} lost, {report['gained']} gained",
        ]
    return "\n".join(lines)


def _source(options: argparse.Namespace) -> Path:
    source = checkpoints.folder(options.model)
    if source is None:
        raise ConfigError(f"there is no folder '{options.model}'; give a local checkpoint")
    return source.absolute()


def _check(options: argparse.Namespace, source: Path, out: Path) -> None:
    """Whatever can be known before the tools are started."""
    if options.method == "awq" and (options.bits == 8 or options.activations == 8):
        raise ConfigError("--method awq is for 4-bit weights and 16-bit activations; for 8 bits, use gptq")
    if options.activations == 8 and options.bits == 4:
        raise ConfigError(
            "--activations 8 goes with --bits 8: no engine here runs 4-bit weights with 8-bit activations"
        )
    if not (options.calibration or options.task):
        raise ConfigError("--calibration: give texts like those that the model will see, one a line, or a --task")
    if options.samples < 1 or options.items < 1:
        raise ConfigError("--samples and --items: give 1 or more")
    if source.resolve().is_relative_to(out.resolve()) or out.resolve().is_relative_to(source.resolve()):
        raise ConfigError("OUT and MODEL must not lie in each other; choose another folder")
    if out.exists() and not options.force:
        raise ConfigError(f"{options.out} is already there; add --force to replace it")
    if checkpoints.read(source).scheme not in (HALF, FULL):
        raise ConfigError(f"'{options.model}' is quantized already; start from the original")


def _python(options: argparse.Namespace) -> Path:
    """The interpreter of the tools' environment. Raises ConfigError where there is none."""
    folder = Path(options.env).absolute() if options.env else home() / "quantize"
    python = folder / "bin" / "python"
    if options.setup:
        _set_up(folder, python)
    if not python.is_file():
        raise ConfigError(
            f"{folder} is no environment with the tools; add --setup to make it, or name another with --env"
        )
    return python


def _set_up(folder: Path, python: Path) -> None:
    sys.stderr.write(f"installing the tools into {folder}, once\n")
    venv.create(folder, with_pip=True)
    try:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
    except subprocess.CalledProcessError as error:
        raise EngineFailed("The tools could not be installed; the lines above say why.") from error


def _quantize(options: argparse.Namespace, python: Path, source: Path, out: Path) -> dict[str, Any]:
    command = [str(python), "-W", "ignore", "-m", "tools.quantize.run", str(source), str(out)]
    for name in PASSED_ON:
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name}", str(_absolute(value) if name in ("calibration", "task") else value)]
    done = subprocess.run(
        command, cwd=checkpoints.PROJECT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise EngineFailed("The tools could not quantize the checkpoint; the lines above say why.")
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def _absolute(value: str) -> str:
    """A file counts from the current directory, and the tools run in the project's."""
    return str(Path(value).absolute()) if Path(value).is_file() else value

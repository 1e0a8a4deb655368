import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.errors import Unavailable
from serve_app.services.spool import Spool


async def written(spool: Spool, data: bytes = b"abc") -> Path:
    file = spool.file()
    await file.write(data)
    return Path(file.media().path)


async def test_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, sys; from serve_app.services.spool import Spool\n"
        "file = Spool(pathlib.Path(sys.argv[1])).file(); asyncio.run(file.write(b'x'))\n"
        "print(file.media().path, flush=True); os._exit(9)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
    leftover = Path(run.stdout.strip())
    assert leftover.is_file()
    mine = await written(Spool(tmp_path))
    assert not leftover.parent.exists()
    assert mine.is_file()


async def test_what_a_living_process_has_is_left_alone(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    one, two = await written(first), await written(second)
    assert one.is_file()
    assert one.parent != two.parent
    second.close()
    assert not two.parent.exists()
    assert one.is_file()


async def test_a_file_that_was_dropped_is_not_made_again(tmp_path: Path) -> None:
    file = Spool(tmp_path).file()
    await file.write(b"abc")
    path = Path(file.media().path)
    file.remove()
    await file.write(b"late")
    assert not path.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
async def test_a_full_disk_is_said(tmp_path: Path) -> None:
    file = Spool(tmp_path).file()
    await file.write(b"")
    with open("/dev/full", "wb", buffering=0) as full:
        assert file._file
        os.dup2(full.fileno(), file._file.fileno())
        with pytest.raises(Unavailable, match="no room"):
            await file.write(b"abc")
    file.remove()

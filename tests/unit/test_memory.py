"""The ladder that is climbed as memory becomes short, and where the limit is read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.memory import Memory, Pressure, limit_bytes, used_bytes
from gateway.errors import Unavailable

MB = 1 << 20


def ladder(limit: int | None = 1000) -> tuple[Memory, list[Pressure]]:
    heard: list[Pressure] = []
    return Memory(limit, heard.append), heard


@pytest.mark.parametrize(
    ("used", "pressure"),
    [
        (0, Pressure.NONE),
        (849, Pressure.NONE),
        (850, Pressure.SHED),
        (919, Pressure.SHED),
        (920, Pressure.CLOSE),
        (950, Pressure.REFUSE),
        (5000, Pressure.REFUSE),
    ],
)
def test_rungs(used: int, pressure: Pressure) -> None:
    memory, heard = ladder()
    memory.observe(used)
    assert memory.pressure is pressure
    assert heard == ([pressure] if pressure else [])


def test_it_comes_down_one_rung_after_the_other_and_does_not_flap() -> None:
    memory, heard = ladder()
    for used in (960, 930, 919, 891, 889, 860, 821, 851, 819, 849):
        memory.observe(used)
    assert heard == [Pressure.REFUSE, Pressure.CLOSE, Pressure.SHED, Pressure.NONE]


def test_new_requests_are_refused_from_the_first_rung_on() -> None:
    memory, _ = ladder()
    memory.admit()
    memory.observe(850)
    with pytest.raises(Unavailable) as caught:
        memory.admit()
    assert caught.value.code == "overloaded" and (caught.value.retry_after_s or 0) >= 1
    memory.observe(100)
    memory.admit()


def test_without_a_limit_nothing_is_too_much() -> None:
    memory, heard = ladder(None)
    memory.observe(1 << 50)
    memory.limit = 1000
    memory.observe(990)
    memory.limit = None
    memory.observe(990)
    assert heard == [Pressure.REFUSE, Pressure.NONE]


def test_what_is_used_is_what_the_system_says() -> None:
    before = used_bytes()
    held = bytearray(64 * MB)
    held[::4096] = b"x" * len(held[::4096])
    assert used_bytes() - before > 32 * MB


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_least_of_the_groups_of_version_2_counts(tmp_path: Path) -> None:
    root = written(
        tmp_path / "fs",
        a__b__memory_dot_max="max\n",
        a__memory_dot_max="300\n",
        memory_dot_max="400\n",
    )
    own = written(tmp_path, own="0::/a/b\n") / "own"
    assert limit_bytes(own, root) == 300


@pytest.mark.parametrize(("text", "limit"), [("500\n", 500), ("9223372036854771712\n", None)])
def test_version_1_inside_a_container_shows_its_own_root(
    tmp_path: Path, text: str, limit: int | None
) -> None:
    root = tmp_path / "fs"
    written(root / "memory", memory_dot_limit_in_bytes=text)
    lines = "5:cpu:/\n4:hugetlb,memory:/docker/abc\n1:name=systemd:/\n0::/\n"
    assert limit_bytes(written(tmp_path, own=lines) / "own", root) == limit


def test_no_groups_no_limit(tmp_path: Path) -> None:
    assert limit_bytes(tmp_path / "nothing", tmp_path) is None

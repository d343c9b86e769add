from pathlib import Path
from types import SimpleNamespace

import pytest
from millrace_cli.local import scratch


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(scratch, "_SHARED_MEMORY", folder)
    return folder


def have_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_plenty_of_memory_is_used_and_given_back(tmp_path, memory, monkeypatch):
    have_free(monkeypatch, 64 * 1024**3)
    folder = scratch.make_scratch(tmp_path / "local")
    (folder / "layer").write_text("unpacked")
    assert folder.parent == memory
    assert folder.stat().st_mode & 0o777 == 0o700

    scratch.remove_scratch(tmp_path / "local")

    assert list(memory.iterdir()) == []


def test_little_memory_leaves_it_to_the_disk(tmp_path, memory, monkeypatch):
    have_free(monkeypatch, 1024**3)
    assert scratch.make_scratch(tmp_path / "local").is_relative_to(tmp_path / "local")


def test_a_folder_that_is_there_already_is_not_trusted(tmp_path, memory, monkeypatch):
    have_free(monkeypatch, 64 * 1024**3)
    scratch.scratch_dirs(tmp_path / "local")[0].mkdir()
    assert scratch.make_scratch(tmp_path / "local").is_relative_to(tmp_path / "local")


def test_two_checkouts_do_not_share_a_folder(tmp_path, memory):
    assert scratch.scratch_dirs(tmp_path / "a")[0] != scratch.scratch_dirs(tmp_path / "b")[0]

"""Until when a street may drive, as its process reads it."""

from __future__ import annotations

import math

import pytest

from headway.street.permit import FILE, Permit, PermitError, clock_s


def test_the_process_reads_what_the_holder_writes(tmp_path):
    holder = Permit(tmp_path / "main", is_new=True)
    process = Permit(tmp_path / "main")
    with pytest.raises(PermitError, match="not renewed"):
        process.is_due()
    now_s = clock_s()
    holder.extend(now_s + 60.0, now_s + 120.0)
    assert not process.is_due()
    holder.extend(now_s - 1.0, now_s + 120.0)
    assert process.is_due()
    holder.extend(math.inf, now_s + 120.0)
    assert not process.is_due()
    holder.extend(now_s - 2.0, now_s - 1.0)
    with pytest.raises(PermitError):
        process.is_due()


def test_a_new_permit_ends_the_one_of_before(tmp_path):
    """A process that still reads it is not to read beyond the end of its file."""
    before = Permit(tmp_path, is_new=True)
    before.extend(0.0, clock_s() + 60.0)
    process = Permit(tmp_path)
    assert process.is_due()
    Permit(tmp_path, is_new=True)
    with pytest.raises(PermitError):
        process.is_due()
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty|length"):
        Permit(tmp_path)


def test_there_is_none_before_somebody_holds_the_lease(tmp_path):
    with pytest.raises(FileNotFoundError):
        Permit(tmp_path)

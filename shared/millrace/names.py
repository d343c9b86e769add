"""Names and identifiers: validation and construction.

Identifiers are functions of what they identify, so the same event always has the same identifiers.
"""

import hashlib
import re
from datetime import UTC, datetime

from millrace.errors import InvalidNameError

MODEL_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
JOB_ID_PATTERN = r"^b-[0-9]{8}T[0-9]{6}-[0-9a-f]{12}$"
#: A run's id, or that of a release, whose replay has the same.
REPLAY_ID_PATTERN = r"^([0-9]{8}T[0-9]{6}-[0-9a-f]{12}|r-[0-9]{8}T[0-9]{6}-[0-9a-f]{8})$"
CHAMPION = "champion"
CHALLENGER = "challenger"

_MODEL_NAME = re.compile(MODEL_NAME_PATTERN + r"\Z")
_CAUSE_ID = re.compile(r"^[0-9a-f]{32}\Z")
_KEY_ID = re.compile(r"^[A-Za-z0-9]{1,64}\Z")
_RELEASE_ID = re.compile(r"^(active|r-[0-9]{8}T[0-9]{6}-[0-9a-f]{8})\Z")
_JOB_ID = re.compile(JOB_ID_PATTERN + r"\Z")
_REPLAY_ID = re.compile(REPLAY_ID_PATTERN + r"\Z")
_RUN_ID = re.compile(r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{12}\Z")


def validate_model_name(name: str) -> str:
    """Return ``name`` when it is a valid model name.

    Raises ``InvalidNameError`` when it is not 1 to 63 letters, digits, ``-`` or ``_``, starting with a letter or digit.
    """
    if not _MODEL_NAME.match(name):
        raise InvalidNameError(
            f"{name!r} cannot be a model name: use 1 to 63 letters, digits, '-' or '_', starting with a letter or digit"
        )
    return name


def validate_run_id(run_id: str) -> str:
    """Return ``run_id`` when it has the form of a run id; raises ``InvalidNameError`` otherwise."""
    if not _RUN_ID.match(run_id):
        raise InvalidNameError(f"{run_id!r} is not a run id: one looks like 20260503T141500-0f3a9c2b7d1e")
    return run_id


def validate_release_id(release_id: str) -> str:
    """Return ``release_id`` when it has the form of one, or is ``active``; raises ``InvalidNameError`` otherwise."""
    if not _RELEASE_ID.match(release_id):
        shown = f"{release_id[:40]!r} is not a release id"
        raise InvalidNameError(f"{shown}: one looks like r-20261130T030000-0a1b2c3d, and active is the active one's")
    return release_id


def validate_job_id(job_id: str) -> str:
    """Return ``job_id`` when it has the form of a batch job's id; raises ``InvalidNameError`` otherwise."""
    if not _JOB_ID.match(job_id):
        shown = f"{job_id[:40]!r} is not the id of a batch job"
        raise InvalidNameError(f"{shown}: one looks like b-20261130T060000-0f3a9c2b7d1e")
    return job_id


def validate_replay_id(replay_id: str) -> str:
    """Return ``replay_id`` when it has the form of one; raises ``InvalidNameError`` otherwise."""
    if not _REPLAY_ID.match(replay_id):
        shown = f"{replay_id[:40]!r} is not a replay id"
        raise InvalidNameError(f"{shown}: one looks like 20260503T141500-0f3a9c2b7d1e, or is the id of a release")
    return replay_id


def validate_cause_id(cause_id: str) -> str:
    """Return ``cause_id`` when it has the form of a cause id; raises ``InvalidNameError`` otherwise."""
    if not _CAUSE_ID.match(cause_id):
        raise InvalidNameError(f"{cause_id[:40]!r} is not a cause id: one has 32 hexadecimal digits")
    return cause_id


def validate_key_id(key_id: str) -> str:
    """Return ``key_id`` when it has the form of an API key's id; raises ``InvalidNameError`` otherwise."""
    if not _KEY_ID.match(key_id):
        raise InvalidNameError(f"{key_id[:80]!r} is not the id of an API key: one has letters and digits, at most 64")
    return key_id


def make_cause_id(*parts: str) -> str:
    """Return the id of a cause: a SHA-256 over its parts, as 32 hexadecimal digits.

    Parameters
    ----------
    *parts : str
        For an upload: ``"upload"``, bucket, key and version id; for a schedule: its name and slot.
    """
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def make_run_id(cause_id: str, occurred_at: datetime) -> str:
    """Return the id of the run that a cause starts; it sorts by time, and names the execution."""
    return f"{occurred_at.astimezone(UTC):%Y%m%dT%H%M%S}-{cause_id[:12]}"


def make_job_id(cause_id: str, occurred_at: datetime) -> str:
    """Return the id of the batch job that a cause starts; it sorts by time, and names the execution."""
    return f"b-{make_run_id(cause_id, occurred_at)}"

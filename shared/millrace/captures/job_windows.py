"""Windows of captured batch jobs: the histograms of one job's rows.

They are stored apart from those of requests, so that a job of millions of rows changes no window of traffic.
"""

import gzip
from datetime import datetime
from typing import Self

from millrace.documents import Document
from millrace.errors import ArtifactIntegrityError
from millrace.histograms.predictions import Traffic
from millrace.layout import job_window_key
from millrace.ports import ObjectStore

_GZIP = "application/gzip"


class JobWindow(Document, frozen=True, kw_only=True, eq=False):
    """Histograms of the rows of one job that have a prediction."""

    job_id: str
    version: int
    begin: datetime  # the job's request
    end: datetime
    traffic: Traffic

    def store(self, model: str, store: ObjectStore) -> None:
        """Write the window under the job's own key: written again, it is the same."""
        store.put(job_window_key(model, self.job_id), gzip.compress(self.write(indent=False), mtime=0), _GZIP)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read what :meth:`store` wrote; raises ``ArtifactIntegrityError`` for anything else."""
        try:
            return cls.read(gzip.decompress(body))
        except (OSError, EOFError) as error:
            raise ArtifactIntegrityError(f"the window of a batch job cannot be read: {error}") from error

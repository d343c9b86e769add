"""A BentoML service's application, in process."""

import os
import sys
from pathlib import Path

import worker


def make(folder: Path) -> worker.Ask:
    """Return the service as a function of a body."""
    os.environ |= {"BENCH_FOLDER": str(folder), "BENCH_INSIDE": sys.argv[2]}
    from asgi import asker
    from bento_service import Churn

    return asker(Churn.to_asgi(), "/predict")


if __name__ == "__main__":
    worker.run(make, "_records")

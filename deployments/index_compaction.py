"""Compacts one index: `python -m deployments.index_compaction LOCATION FINGERPRINT DIMENSIONS COPIES`.

The gateway starts it, so that building a version takes neither the gateway's memory nor its interpreter.
"""

import os
import sys
from pathlib import Path

from retrieval.index_writer import IndexWriter
from retrieval.storage import open_storage

# Behind everything that answers questions.
NICENESS = 10


def main(arguments: list[str]) -> None:
    location, fingerprint, dimensions, copies = arguments
    os.nice(NICENESS)
    IndexWriter(open_storage(location, Path(copies)), fingerprint, int(dimensions)).compact_if_due()


if __name__ == "__main__":
    main(sys.argv[1:])

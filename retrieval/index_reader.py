"""Serves an index while others write it."""

import logging
import threading

from experts.errors import EncoderMismatch, IndexDamaged, IndexUnavailable
from retrieval.log_follower import LogFollower
from retrieval.snapshot import Snapshot
from retrieval.storage import Storage

logger = logging.getLogger(__name__)


class IndexReader:
    """Follows an index: `refresh` reads what is new, `snapshot` is searched meanwhile by any number of threads."""

    def __init__(self, storage: Storage, encoder_fingerprint: str | None = None) -> None:
        self._storage = storage
        self._follower = LogFollower(storage, encoder_fingerprint)
        self._refreshing = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._last_trouble = ""

    def refresh(self, wait: bool = True) -> bool:
        """Read what was committed since; whether there is a new snapshot. The first call opens the index.

        Nothing new costs one look for a file. Without `wait`, a newly published version is pulled, checked and mapped
        beside, while added documents go on being followed; a later call takes it.

        Raises IndexDamaged when there is no index yet or nothing of it can be served, EncoderMismatch when its vectors
        are of another encoder, IndexUnavailable when its storage does not answer; only while there is no snapshot.
        After that the last good state is served: the log and `status().damage` tell.
        """
        with self._refreshing:
            try:
                if not self._follower.follow(wait):
                    return False
            except (IndexDamaged, EncoderMismatch, IndexUnavailable) as error:
                if self._snapshot is None:
                    raise
                if str(error) != self._last_trouble:
                    logger.error("%s; the last good state goes on being served", error)
                self._last_trouble = str(error)
                return False
            self._last_trouble = ""
            self._snapshot = self._follower.snapshot
            return True

    def snapshot(self) -> Snapshot:
        """The index as the last refresh left it; never waits. Raises IndexDamaged before the first."""
        snapshot = self._snapshot
        if snapshot is None:
            raise IndexDamaged(
                f"the index at {self._storage.location} is not open; "
                f"if there is none, run `guildhall index build DOMAIN`"
            )
        return snapshot

    def close(self) -> None:
        """End what refreshing started; the snapshot can be searched still."""
        with self._refreshing:
            self._follower.close()

"""A lock on an open file, between processes: held until the file is closed, so until its holder dies at the latest."""

import os
import sys

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, wait: bool, shared: bool = False) -> bool:
        """Lock the file; False when another one has it and we do not wait. shared: there is none on Windows."""
        while True:
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False

else:
    import fcntl

    def try_lock(descriptor: int, *, wait: bool, shared: bool = False) -> bool:
        """Lock the file; False when another one has it and we do not wait. shared: beside others who share it."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

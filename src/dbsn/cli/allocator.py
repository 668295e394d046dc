"""Let freed memory stay with the process, as networks ask for the same large pieces again and again.

glibc gives pieces of more than 32 MB back to the system at once, and the system clears them anew: on a processor that
took up to half of a student's time (docs/lab). Only for a process that is ours, the command line's, and not
for training, which it does not help: there, other threads ask for memory, too.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed; elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)

"""What an error means for the user: the remedy for a file that could not be written, and a message on one line."""

from __future__ import annotations

import errno
import os
import textwrap

ALLOW_USER, OPEN_FILES = "let this user write there", "raise the limit on open files (ulimit -n)"
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: ALLOW_USER,
    errno.EPERM: ALLOW_USER,
    errno.EROFS: "mount it for writing",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EMFILE: OPEN_FILES,
    errno.ENFILE: OPEN_FILES,
}


def remedy(error: Exception) -> str:
    """Return what to do about a file that could not be written.

    An OSError is recognized by its number, an error of TensorFlow by the system's message in its text.
    """
    number = getattr(error, "errno", None) or next((n for n in REMEDIES if os.strerror(n) in str(error)), 0)
    return REMEDIES.get(number, "check the disk and the folder")


def one_line(error: Exception) -> str:
    """Return another library's message on one line, shortened to 200 characters so that it fits into a sentence."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" …")

"""Requests to a store that may be away: which error may pass, how long to try again, and what is said in the end."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from curation.faults import is_infrastructure, one_line

PATIENCE = 60.0
"""Seconds for which a request is made again while the store is away or asks to slow down, after the client's own few tries."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, MemoryError)
FINAL_ERRNO = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.ENOSPC)
ERRNO = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST, PermissionError: errno.EACCES}
ERRNO |= {TimeoutError: errno.ETIMEDOUT, ConnectionError: errno.ECONNRESET}
"""For errors of clients that name a class, but no number."""
T = TypeVar("T")


def patiently(url: str, call: Callable[[], T]) -> T:
    """What the call gives; while the store is away it is made again, with growing pauses. Raises `OSError` with the URL."""
    start, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not is_infrastructure(error):
                raise
            if not _may_pass(error) or time.monotonic() - start + pause > PATIENCE:
                raise _translated(error, url) from error
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST_PAUSE)


def code(error: BaseException | None) -> str:
    """What S3 called the error; "" when it was none of S3's."""
    while error:
        if isinstance(response := getattr(error, "response", None), dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _may_pass(error: Exception) -> bool:
    """Whether the same request may do better later. Of the errors of botocore's own only those of the connection."""
    if code(error) == "NoSuchUpload":  # it was ended by another, or an answer was lost: all parts once more
        return True
    if isinstance(error, FINAL):
        return False
    if isinstance(error, OSError):
        return error.errno not in FINAL_ERRNO
    classes = {f"{c.__module__}.{c.__name__}" for c in type(error).__mro__}
    return "botocore.exceptions.BotoCoreError" not in classes or "botocore.exceptions.HTTPClientError" in classes


def _translated(error: Exception, url: str) -> OSError:
    if code(error) == "NoSuchBucket":  # else it would look like an empty folder
        return OSError(errno.EIO, "no such bucket", url)
    number = getattr(error, "errno", None) or next((n for kind, n in ERRNO.items() if isinstance(error, kind)), errno.EIO)
    text = "no such file" if number == errno.ENOENT else getattr(error, "strerror", None) or one_line(error)
    return OSError(number, text, url)  # Python makes it a FileNotFoundError, PermissionError … by the number

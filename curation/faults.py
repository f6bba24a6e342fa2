"""Three kinds of error, told apart by whose fault they are: the data's, the machinery's, the code's. That decides what becomes of
them: the verdict of one clip, another try, or the end of the run."""

from __future__ import annotations

import re

MACHINERY = ("aiobotocore", "aiohttp", "botocore", "fsspec", "httpx", "requests", "s3fs", "urllib3", "vllm")
"""Packages whose exceptions tell of a network, an object store or an engine, never of a clip."""
GPU = re.compile(r"CUDA|cuDNN|cuBLAS|NCCL|out of memory")


class DataError(Exception):
    """The file or the caption is at fault: the clip fails, with this as its reason.

    `reason` is a short snake_case word, the same for the same kind of damage, so that it can be counted; `detail` is what is
    particular to this one.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Infrastructure(Exception):
    """Disk, network, object store, GPU or engine: nothing is said about the clip. It is tried again, and never a verdict."""


class StageBug(Exception):
    """A stage broke its own declaration. It stops the run: the fault is in the code, not in a clip."""


def is_infrastructure(error: BaseException) -> bool:
    """Whether our side broke: `Infrastructure`, an operating system's error, no memory, a GPU, or a client of the network."""
    if isinstance(error, (Infrastructure, OSError, MemoryError)):
        return True
    if type(error).__module__.partition(".")[0] in MACHINERY:
        return True
    return isinstance(error, RuntimeError) and GPU.search(str(error)) is not None


def one_line(error: BaseException, most: int = 300) -> str:
    """Type and message of an error in one line of at most `most` characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:most] if text else type(error).__name__

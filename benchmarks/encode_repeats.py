"""Does libx264 give the same bytes every time? Encodes one short clip over and over, and counts the different results.

PYTHONPATH=. python benchmarks/encode_repeats.py [--seconds 60]      # run two or three at once
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections import Counter
from fractions import Fraction

from curation.media import encode, video
from tests import videos


def encoded(data: bytes) -> bytes:
    encoder = encode.Encoder(Fraction(30), 18, "veryfast")
    for frame in video.frames(io.BytesIO(data)):
        encoder.add(frame)
    return encoder.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    data, found, end = videos.numbered(30), Counter[str](), time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        found[hashlib.sha256(encoded(data)).hexdigest()[:8]] += 1
    odd = found.total() - found.most_common(1)[0][1]
    print(json.dumps({"figure": "encodes that differ", "value": odd, "of": found.total(), "results": len(found)}))


if __name__ == "__main__":
    main()

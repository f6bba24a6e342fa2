"""Which metrics a profile has, with which networks: the papers' own, ours for a CPU, and those of open benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from curation.benchmark.case import Mode, References
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics import Metric, pictures
from curation.benchmark.metrics.sharing import Once
from curation.store import store

Profile = Literal["papers", "cpu", "open"]

CLIP, DINO, ARCFACE, FACES, RAFT = ("clip-vit-large-patch14", "dino-vitb16", "arcface-r100", "yolov9-face", "raft-things")
GROUNDED = ("groundingdino-swint", "bert-base-uncased", "sam-vit-b")
EFFNET, DLIB, CENTERFACE = "efficientnet-lite2", "dlib-faces", "centerface"
CLOSED_SET = ("nanodet", "wordnet", "selfie-segmentation", "mediapipe-pose", "u2netp")
FARNEBACK_MOVES = 6 / 256
"""Dync-D's threshold, as Farnebäck's flow measures what moves as it is: a patch of a third of the frame's sides that moves by 2
to 20 px over a frame of panda70m-mini (short side 256; 15 clips), by 0.99 to 1.0 of that in the median. Where a thing has no
texture, or a blurred frame moves far, it sees less. 73 % of its 60 clips are dynamic in their first second; 87 % at 3 px."""


def models(name: str) -> list[str]:
    """What a profile needs of the store, for `store.fetch`. Raises `BenchmarkError`."""
    if _known(name) == "cpu":
        return [EFFNET, *CLOSED_SET, CENTERFACE, DLIB]
    return [CLIP, *GROUNDED, DINO, FACES, ARCFACE, RAFT]


def profile(name: str, device: str, references: References = "single", mode: Mode = "subject") -> list[Metric]:
    """The metrics, their networks loaded from the store on `device` (the CPU profile leaves it alone). `references`, `mode`:
    what the videos were made from; copy-paste is undefined for "all". Raises `BenchmarkError` and `store.StoreError`."""
    make = {"papers": _papers, "cpu": _cpu, "open": _open}[_known(name)]
    return make(device, references, mode)


def _known(name: str) -> str:
    if name not in get_args(Profile):
        raise BenchmarkError(f"no profile {name!r}; known: {', '.join(get_args(Profile))}")
    return name


def _papers(device: str, references: References, mode: Mode) -> list[Metric]:
    from curation.benchmark.metrics.copy_paste import CopyPaste
    from curation.benchmark.metrics.dync_d import DyncD
    from curation.benchmark.metrics.face_s import FaceS
    from curation.benchmark.metrics.pose_spread import PoseSpread
    from curation.benchmark.metrics.subj_s import SubjS
    from curation.benchmark.metrics.text_s import TextS
    from curation.benchmark.metrics.vid_s import VidS

    clip, subjects, faces = _clip(device), _subjects(device, _dino(device)), _faces(device)
    frames = Once(squares(clip.pictures, clip.side))
    return [
        TextS(frames, clip.text, (CLIP,)),
        VidS(frames, (CLIP,)),
        SubjS(subjects, (*GROUNDED, DINO)),
        FaceS(faces, _arcface(device), (FACES, ARCFACE)),
        DyncD(_raft(device), (RAFT,)),
        CopyPaste(subjects, (*GROUNDED, DINO), references=references, mode=mode),
        PoseSpread(subjects, GROUNDED),
    ]


def _cpu(device: str, references: References, mode: Mode) -> list[Metric]:
    from curation.benchmark.metrics.copy_paste import CopyPaste
    from curation.benchmark.metrics.dync_d import DyncD
    from curation.benchmark.metrics.embedded import ClosedSetCuts, DlibFaces, NotAvailable, SurestFaces, closeness
    from curation.benchmark.metrics.face_s import FaceS, Faces
    from curation.benchmark.metrics.pose_spread import PoseSpread
    from curation.benchmark.metrics.subj_s import SubjS
    from curation.benchmark.metrics.subjects import Subjects
    from curation.benchmark.metrics.vid_s import VidS
    from curation.models import device as device_of
    from curation.models.centerface import CenterFace
    from curation.models.closed_set import ClosedSet
    from curation.models.efficientnet import EfficientNet
    from curation.models.face_identity import FaceIdentity
    from curation.models.farneback import farneback
    from curation.models.matte import Matte
    from curation.models.nanodet import NanoDet
    from curation.models.people import People
    from curation.models.pose import Pose
    from curation.models.u2net import U2Net
    from curation.models.wordnet import WordNet

    device_of.pick(0)
    network, names, matte = (
        EfficientNet(store.path(EFFNET)),
        WordNet(store.path("wordnet")),
        Matte(store.path("selfie-segmentation")),
    )
    people = People(matte, Pose(store.path("mediapipe-pose")))
    things = ClosedSet(NanoDet(store.path("nanodet")), names, matte, people=people, salient=U2Net(store.path("u2netp")))
    subjects = Subjects(ClosedSetCuts(things), _padded(_effnet(network)), lambda word: things.label(word) is not None)
    faces = Faces(SurestFaces(CenterFace(store.path(CENTERFACE))))
    return [
        NotAvailable("text_s"),
        VidS(lambda frames: _effnet(network)([pictures.centre_square(f) for f in frames]), (EFFNET,), "view_sim_effnet"),
        SubjS(subjects, (*CLOSED_SET, EFFNET), "subject_sim_effnet"),
        FaceS(faces, DlibFaces(FaceIdentity(store.path(DLIB))), (CENTERFACE, DLIB), "face_sim_dlib", closeness),
        DyncD(farneback, (), "motion_farneback", FARNEBACK_MOVES),
        CopyPaste(subjects, (*CLOSED_SET, EFFNET), "copy_paste_effnet", references, mode),
        PoseSpread(subjects, CLOSED_SET),
    ]


def _open(device: str, references: References, mode: Mode) -> list[Metric]:
    from curation.benchmark.metrics.dync_d import DyncD
    from curation.benchmark.metrics.open_s2v import FaceSim
    from curation.benchmark.metrics.opencustom import ImageSimilarity, MotionSmoothness, RegionSimilarity
    from curation.benchmark.metrics.text_s import TextS

    clip, dino, flow = _clip(device), _dino(device), _raft(device)
    subjects, of_clip, of_dino = (
        _subjects(device, dino),
        on_squares(clip.pictures, clip.side),
        on_squares(dino.pictures, dino.side),
    )
    frames = Once(squares(clip.pictures, clip.side))
    regions = ((*GROUNDED, CLIP), (*GROUNDED, DINO))
    return [
        TextS(frames, clip.text, (CLIP,), "clip_t"),
        ImageSimilarity("clip_i", frames, of_clip, (CLIP,)),
        ImageSimilarity("dino_i", squares(dino.pictures, dino.side), of_dino, (DINO,)),
        RegionSimilarity("region_clip_t", subjects, of_clip, lambda word, _: clip.text(word)[None], regions[0]),
        RegionSimilarity("region_clip_i", subjects, of_clip, lambda _, cutouts: of_clip(cutouts), regions[0]),
        RegionSimilarity("region_dino_i", subjects, of_dino, lambda _, cutouts: of_dino(cutouts), regions[1]),
        MotionSmoothness(flow, (RAFT,)),
        DyncD(flow, (RAFT,), "dynamic_degree"),
        FaceSim(_faces(device), _arcface(device), (FACES, ARCFACE)),
    ]


def squares(network: Callable[[list[np.ndarray]], np.ndarray], side: int) -> Callable[[Any], np.ndarray]:
    """Embeddings of the middle squares of frames (PAPER.md §6)."""
    return lambda frames: network([pictures.resized(pictures.centre_square(frame), side) for frame in frames])


def on_squares(network: Callable[[list[np.ndarray]], np.ndarray], side: int) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Embeddings of crops, each in the middle of a white square (PAPER.md §6)."""
    return lambda crops: network([pictures.resized(pictures.padded_square(crop), side) for crop in crops])


def _effnet(network: Any) -> Callable[[list[np.ndarray]], np.ndarray]:
    return lambda pictures: np.concatenate([network([picture]).embedding for picture in pictures])


def _padded(network: Callable[[list[np.ndarray]], np.ndarray]) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    return lambda crops: network([pictures.padded_square(crop) for crop in crops])


def _clip(device: str) -> Any:
    from curation.models.views import Clip

    return Clip(store.path(CLIP), device)


def _dino(device: str) -> Any:
    from curation.models.views import Dino

    return Dino(store.path(DINO), device)


def _subjects(device: str, dino: Any) -> Any:
    """GroundingDINO, SAM and DINO under MP's rules."""
    from curation.benchmark.metrics.grounded import Grounded
    from curation.benchmark.metrics.subjects import Subjects
    from curation.models.grounding_dino import GroundingDino
    from curation.models.sam import SegmentAnything

    checkpoint, texts, masks = (store.path(name) for name in GROUNDED)
    detector, segmenter = GroundingDino(checkpoint, texts, device), SegmentAnything(masks, device)
    return Subjects(Grounded(detector, segmenter.cut), on_squares(dino.pictures, dino.side))


def _faces(device: str) -> Any:
    from curation.benchmark.metrics.face_s import Faces
    from curation.models.yolov9_face import Yolov9Face

    return Faces(Yolov9Face(store.path(FACES), device))


def _arcface(device: str) -> Any:
    from curation.models.arcface import ArcFace

    return ArcFace(store.path(ARCFACE), device)


def _raft(device: str) -> Any:
    from curation.models.raft import Raft

    return Raft(store.path(RAFT), device)

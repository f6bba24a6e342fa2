"""What split_shots promises of a clip, found again in its source: the later decodes of the same frames.

The promise is the clip's `meta["split_shots"]`: `first_ticks` and `last_ticks` (the first frame of the file is at tick 0),
`frames`, `width`, `height`, whether the clip is to be `encoded`, and which version of the `file` that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from curation.faults import StageBug, is_infrastructure
from curation.sample import Sample

if TYPE_CHECKING:
    from curation.media.spans import Taker
    from curation.media.video import Reader
    from curation.stage import Stage

PROMISE = "split_shots"


def by_source(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Samples of one source together, in the order of their first."""
    sources: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        source = sample.meta["source"]
        sources.setdefault((source["path"], source.get("member"), source.get("offset")), []).append(sample)
    return list(sources.values())


def found_again(samples: Sequence[Sample], stage: Stage, taker: Callable[[Sample, Reader], Taker]) -> list[Any]:
    """What each clip's taker made of its frames, or the error that ended it, from one decode of each source for all its clips.

    What was spent on each is added to its `seconds` of `stage`. Raises what is our side's fault.
    """
    made: dict[int, Any] = {}
    for group in by_source(samples):
        try:
            with stage.watch(group):
                _of_one_source(group, stage, taker, made)
        except Exception as error:  # noqa: BLE001 what a source provokes belongs to its clips
            fault = verdict(error)
            for sample in group:
                made.setdefault(id(sample), fault)
    return [made[id(sample)] for sample in samples]


def _of_one_source(
    samples: Sequence[Sample], stage: Stage, taker: Callable[[Sample, Reader], Taker], made: dict[int, Any]
) -> None:
    from curation.media import source, spans, video

    clock = spans.Clock()
    opened = source.open_source(samples[0].meta["source"], samples[0].meta[PROMISE].get("file"))
    with video.Reader(opened.input, stage.limits.pixels) as reader:
        stretches = []
        for sample in samples:
            facts = sample.meta[PROMISE]
            stretch = spans.Stretch(facts["first_ticks"], facts["last_ticks"], facts["frames"], reader, taker(sample, reader))
            stretches.append(stretch)
        opening = clock.lap() / len(samples)
        spans.decode(reader, stretches)
    for sample, stretch in zip(samples, stretches, strict=True):
        made[id(sample)] = verdict(stretch.failure) if stretch.failure else stretch.made
        spend(sample, stage.name, opening + stretch.seconds)


def spend(sample: Sample, stage: str, seconds: float) -> None:
    """Note time that a stage spent on this sample."""
    sample.seconds[stage] = sample.seconds.get(stage, 0.0) + seconds


def verdict(error: Exception) -> Exception:
    """The error, as the result of the clips that it belongs to; raises it when it is no clip's."""
    if isinstance(error, StageBug) or is_infrastructure(error):
        raise error
    return error

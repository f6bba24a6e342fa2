"""Arithmetic of the transformer, for the utilisation that training and benchmarks print."""

from __future__ import annotations

from curation.trainer.layers import LowRank
from curation.trainer.model import FREQUENCIES, Size


def forward_flops(size: Size, tokens: int, text_tokens: int, slots: int | None = None) -> int:
    """Floating-point operations of one forward pass over one video: matrix products only, a multiply–add is two.

    `tokens` is what `DiT.tokens` says of the latents, `text_tokens` the padded length of the text, `slots` the padded number of
    reference images (`size.slots` when None). Masked tokens count: they are computed. `positions` do not: once per batch. In a
    window the pairs of patches that see each other count. A test holds this to torch's own counter.
    """
    width = size.width
    images = (size.slots if slots is None else slots) * size.image_tokens
    contexts = [(text_tokens, size.text_dim)] + [(images, size.image_dim)] * size.personalization
    block = 4 * tokens * width**2 + 2 * pairs(tokens, size.window) * width  # self-attention, in multiply–adds
    block += 2 * tokens * width * size.inner  # feed-forward
    residuals = 2 + len(contexts)
    shared = 0 if size.adaln == "full" else 3 * width**2 * residuals  # modulations, of all blocks and of each
    if size.adaln != "shared":
        block += residuals * (4 * width * size.adaln.rank if isinstance(size.adaln, LowRank) else 3 * width**2)
    for length, channels in contexts:
        block += 2 * tokens * width**2 + 2 * length * channels * width + 2 * tokens * length * width
    around = tokens * width * size.values * (2 + size.self_conditioning) + width * (FREQUENCIES + width) + 2 * width**2
    bound = (
        images * size.image_dim**2 + images // size.image_tokens * size.words * size.text_dim * size.image_dim * size.use_words
    )
    return 2 * (size.blocks * block + shared + around + bound * size.personalization)


def pairs(tokens: int, window: int | None) -> int:
    """How many pairs of patches self-attention compares: all, or those at most window // 2 apart (`layers.windowed`)."""
    half = tokens if window is None else min(window // 2, tokens - 1)
    return tokens**2 if half >= tokens - 1 else tokens * (2 * half + 1) - half * (half + 1)


def step_flops(size: Size, videos: int, tokens: int, text_tokens: int) -> int:
    """Those of one training step on a batch: forward, twice that backward, and the forward pass of its own estimate.

    For steps that train all layers; recomputation (checkpointing) and the encoders do not count.
    """
    return (3 + size.self_conditioning) * videos * forward_flops(size, tokens, text_tokens)

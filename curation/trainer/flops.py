"""Arithmetic of the transformer, for the utilisation that training and benchmarks print."""

from __future__ import annotations

from curation.trainer.model import FREQUENCIES, Size


def forward_flops(size: Size, tokens: int, text_tokens: int, slots: int | None = None) -> int:
    """Floating-point operations of one forward pass over one video: matrix products only, a multiply–add is two.

    `tokens` is what `DiT.tokens` says of the latents, `text_tokens` the padded length of the text, `slots` the padded number of
    reference images (`size.slots` when None). Masked tokens count: they are computed. `positions` do not: once per batch. A test
    holds this to torch's own counter.
    """
    width = size.width
    images = (size.slots if slots is None else slots) * size.image_tokens
    contexts = [(text_tokens, size.text_dim)] + [(images, size.image_dim)] * size.personalization
    block = 4 * tokens * width**2 + 2 * tokens**2 * width  # self-attention, in multiply–adds
    block += 3 * width**2 * (2 + len(contexts)) + 2 * tokens * width * size.inner  # modulations; feed-forward
    for length, channels in contexts:
        block += 2 * tokens * width**2 + 2 * length * channels * width + 2 * tokens * length * width
    around = tokens * width * size.values * (2 + size.self_conditioning) + width * (FREQUENCIES + width) + 2 * width**2
    bound = (
        images * size.image_dim**2 + images // size.image_tokens * size.words * size.text_dim * size.image_dim * size.use_words
    )
    return 2 * (size.blocks * block + around + bound * size.personalization)


def step_flops(size: Size, videos: int, tokens: int, text_tokens: int) -> int:
    """Those of one training step on a batch: forward, twice that backward, and the forward pass of its own estimate.

    For steps that train all layers; recomputation (checkpointing) and the encoders do not count.
    """
    return (3 + size.self_conditioning) * videos * forward_flops(size, tokens, text_tokens)

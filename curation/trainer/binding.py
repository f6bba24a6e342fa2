"""Which word a reference image stands for: the image's tokens take in the word's (PAPER.md §4, Binding)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Binding(nn.Module):
    """f_n = Linear([x_n, w_n repeated for each token]) + x_n + index_n, for all slots one after the other.

    x_n are image n's tokens of `image_dim` channels; w_n its word's `words` tokens of `text_dim` channels out of the full
    prompt's embeddings, zero-padded or cropped to that many and flattened. The Linear is shared by all slots, `index` is learnt,
    one vector per slot. `use_words=False` leaves w_n out: the papers' ablation.
    """

    def __init__(self, *, image_dim: int, text_dim: int, words: int, slots: int, use_words: bool = True):
        super().__init__()
        self.image_dim, self.use_words = image_dim, use_words
        self.linear = nn.Linear(image_dim + words * text_dim * use_words, image_dim)
        self.index = nn.Parameter(torch.zeros(slots, image_dim))

    def forward(self, images: Tensor, words: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """images [B,N,l,image_dim], words [B,N,K,text_dim], slots bool [B,N] → tokens [B,N·l,image_dim], mask bool [B,N·l].

        N may be less than `slots`. Tokens of an empty slot are zero and masked.
        """
        of_image, of_words = self.linear.weight.split([self.image_dim, self.linear.in_features - self.image_dim], 1)
        bound = linear(images, of_image, self.linear.bias) + images + self.index[: images.shape[1], None].to(images.dtype)
        if self.use_words:  # the word is the same for all tokens of an image: project it once, not l times
            bound = bound + linear(words.flatten(2), of_words)[:, :, None]
        bound = bound.masked_fill(~slots[:, :, None, None], 0.0)
        return bound.flatten(1, 2), slots.repeat_interleave(images.shape[2], 1)

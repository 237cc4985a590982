"""A small causal transformer over bytes (Vaswani et al., arXiv 1706.03762; norms first as in GPT-2)."""

import math

import torch
from torch import nn
from torch.nn import functional

BYTES = 256


class Block(nn.Module):
    """Attention to the bytes before, and two linear maps for each byte; norms before both, sums with the input after.

    Args:
        width: numbers for each byte.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.gathered = nn.Linear(width, width)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """(N, bytes, width) → the same shape."""
        count, length, width = seen.shape
        parts = self.attention(self.attention_norm(seen)).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        later = torch.ones(length, length, dtype=torch.bool, device=seen.device).triu(1)
        scores = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).masked_fill(later, -math.inf)
        found = scores.softmax(-1) @ value  # on processors much faster in training than torch's fused attention
        seen = seen + self.gathered(found.transpose(1, 2).reshape(count, length, width))
        more: torch.Tensor = self.down(functional.gelu(self.up(self.norm(seen))))
        return seen + more


class ByteTransformer(nn.Module):
    """Predicts each next byte of a text from those before it.

    Args:
        width: numbers for each byte.
        blocks: blocks of attention, one after the other.
        heads: of the attention.
        length: most bytes of a text.
    """

    def __init__(self, width: int, blocks: int, heads: int, length: int) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(BYTES, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, BYTES)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Bytes (N, length) as whole numbers → logits of the byte after each, (N, length, 256)."""
        places = torch.arange(text.shape[1], device=text.device).expand_as(text)
        logits: torch.Tensor = self.last(self.norm(self.blocks(self.bytes(text) + self.places(places))))
        return logits


def byte_transformer(width: int = 128, blocks: int = 5, heads: int = 4, length: int = 128) -> nn.Module:
    """A byte-level transformer of 1.07 M parameters; sizes are our choice."""
    return ByteTransformer(width, blocks, heads, length)

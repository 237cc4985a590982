"""Cases of the zoo: words, attention and recurrent networks."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from zoo_case import LENGTH, WORDS, Case, in_order, numbers, seeded, sequences, whole, words


class EmbeddingMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(WORDS, 6, padding_idx=0), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(self.words(given).mean(1))


class TiedModel(nn.Module):
    """A model of language: the weight that gives the next word's logits is the table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner, self.out = nn.Embedding(WORDS, 6), nn.Linear(6, 6), nn.Linear(6, WORDS, bias=False)
        self.out.weight = self.words.weight

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.inner(self.words(given))))


class Attention(nn.Module):
    """Self-attention and the mean of it."""

    def __init__(self, first_samples: bool, **settings: Any) -> None:
        super().__init__()
        self.first_samples = first_samples
        self.attention = nn.MultiheadAttention(8, 2, batch_first=first_samples, **settings)
        self.out = nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        given = given if self.first_samples else given.transpose(0, 1)
        inner, _ = self.attention(given, given, given, need_weights=False)
        return self.out(inner.mean(1 if self.first_samples else 0))


class CrossAttention(nn.Module):
    """Queries and keys of different sizes, so that the weights of the projections are separate; two inputs in order."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=3, add_bias_kv=True, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return self.out(self.attention(queries, keys, keys[..., :3])[0].mean(1))


class Encoder(nn.Module):
    """A transformer: its layers take a path of their own in evaluation, where no gradients flow."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu")
        self.place = nn.Parameter(torch.randn(1, LENGTH, 8) * 0.1)
        self.layers, self.out = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(given + self.place)[:, 0])


class CausalBlock(nn.Module):
    """Attention of one's own that looks back only: a buffer holds minus infinity where it may not look."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.back = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), -math.inf).triu(1))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        queries, keys, values = self.mix(self.norm(given)).chunk(3, 2)
        shares = (queries @ keys.transpose(1, 2) / 8**0.5 + self.mask).softmax(2)
        given = given + self.back(shares @ values)
        return given + self.narrow(functional.gelu(self.wide(given)))


class CausalModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 8), nn.Embedding(LENGTH, 8)
        self.block, self.out = CausalBlock(), nn.Linear(8, WORDS)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        places = torch.arange(given.shape[1], device=given.device)
        return self.out(self.block(self.words(given) + self.places(places)))


class Recurrent(nn.Module):
    """A recurrent network, of which the last step or the mean of all is classified."""

    def __init__(self, inner: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.inner, self.out = inner, nn.Linear(width, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if not self.inner.batch_first:
            return self.out(self.inner(given.transpose(0, 1))[0].mean(0))
        return self.out(self.inner(given)[0][:, -1])


class Cells(nn.Module):
    """A cell that is called for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(8, 6), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        state = (given.new_zeros(len(given), 6), given.new_zeros(len(given), 6))
        for step in range(given.shape[1]):
            state = self.cell(given[:, step], state)
        return self.out(state[0])


class RelativePlaces(nn.Module):
    """Attention whose scores get a table's entries, picked by a buffer of whole numbers, as in Swin transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * LENGTH - 1, 2) * 0.3)
        places = torch.arange(LENGTH)
        self.register_buffer("index", places[:, None] - places + LENGTH - 1)
        self.mix, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        parts = self.mix(given).view(len(given), LENGTH, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(2, 3) / 2 + self.table[self.index].permute(2, 0, 1)
        return self.out((scores.softmax(3) @ parts[2]).transpose(1, 2).flatten(2).mean(1))


class MaskedMixer(nn.Module):
    """Mixes steps by a weight that is masked by a buffer of yes and no."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Parameter(torch.randn(LENGTH, LENGTH) * 0.4), nn.Linear(8, 3)
        self.register_buffer("earlier", torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril())

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        mixed = self.mix.masked_fill(~self.earlier, 0) @ given
        return self.out(torch.tanh(mixed[:, -1]))


class PaddedEncoder(nn.Module):
    """A transformer that leaves out padding: without gradients it works on nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8, padding_idx=0)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 1)
        self.out = nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        left_out = torch.cat([given.new_zeros(len(given), 1), given[:, 1:] == 0], 1).bool()
        return self.out(self.layers(self.words(given), src_key_padding_mask=left_out)[:, 0])


class StepsFirst(nn.Module):
    """Merges steps and samples, steps first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.inner(given.transpose(0, 1).reshape(-1, 8)))
        return self.out(inner.view(LENGTH, len(given), 6).mean(0))


class Windows(nn.Module):
    """Cuts each sample into windows, which a layer takes as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.conv, self.out = nn.Linear(4, 6), nn.Conv1d(6, 6, 1), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        windows = given.reshape(-1, 4)  # two of every step
        inner = functional.relu(self.conv(functional.relu(self.inner(windows)).unsqueeze(2)))
        return self.out(inner.reshape(len(given), -1, 6).mean(1))


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(WORDS, 6, mode="mean"), nn.Tanh(), nn.Linear(6, 3))


TWO_INPUTS = {"inputs": in_order(numbers(LENGTH, 8), numbers(4, 4, seed=9))}
CASES = (
    words("embedding", EmbeddingMean, "a row a word; not every word is seen"),
    words("embedding-bag", bag),
    words("tied-embedding", TiedModel, "one parameter under two names, a label a token", labels=whole(WORDS, LENGTH)),
    words("causal-model", CausalModel, "minus infinity in a buffer, a label a token", labels=whole(WORDS, LENGTH)),
    sequences("attention", lambda: Attention(True), "out_proj is never called"),
    sequences("attention-sequence-first", lambda: Attention(False), "the first axis is not that of samples"),
    sequences("attention-no-bias", lambda: Attention(True, bias=False)),
    sequences("cross-attention", CrossAttention, "separate weights of the projections", **TWO_INPUTS),
    sequences("transformer", Encoder, "a fast path in evaluation"),
    words("transformer-padded", PaddedEncoder, "a mask of padding, nested tensors"),
    sequences("relative-places", RelativePlaces, "a buffer of whole numbers"),
    sequences("masked-mixer", MaskedMixer, "a buffer of yes and no; weights without effect"),
    sequences("lstm", lambda: Recurrent(nn.LSTM(8, 6, batch_first=True), 6)),
    sequences("lstm-two-layers-both-ways", lambda: Recurrent(nn.LSTM(8, 4, 2, bidirectional=True), 8), "steps first"),
    sequences("lstm-projected", lambda: Recurrent(nn.LSTM(8, 6, proj_size=4, batch_first=True), 4)),
    sequences("gru", lambda: Recurrent(nn.GRU(8, 6, batch_first=True), 6)),
    sequences("rnn", lambda: Recurrent(nn.RNN(8, 6, batch_first=True, bias=False), 6)),
    sequences("lstm-cell", Cells, "called for each step"),
    sequences("steps-first", StepsFirst, "the leading axis is steps times samples"),
    sequences("windows", Windows, "the leading axis is samples times windows"),
    Case("token-mlp", seeded(lambda: nn.Linear(8, 4)), numbers(LENGTH, 8), whole(4, LENGTH), note="a label a token"),
)

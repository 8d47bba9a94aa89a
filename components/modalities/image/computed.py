"""Features of a corpus's pictures as shards hold them, in place of the pictures' way through a tower."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from components import paths
from components.modalities.image.samples import features_at
from components.modalities.image.shards import DIGEST, INDEX_NAME, Arrays, digest_of
from components.outcomes import Refused
from components.pairing import require_current

if TYPE_CHECKING:
    from torch import Tensor

    from components.modalities.image.similarity import Pair

NUM_CHECKED = 4
"""Pictures that pass through the pair's own tower, to see that features are its."""
TOLERANCE = 0.02
"""Of their length, by which features may differ from those computed now: fp16 keeps three digits, bf16 computes two."""


class Computed:
    """What shards say of the accepted pictures of a corpus, each by its number within its split.

    Args:
        name: of the shards, under an encoder of kind `tower`.
        key: that names them, for messages.

    Raises:
        Refused: they are missing, hold something else, or were made from other records.
    """

    def __init__(self, name: str, key: str) -> None:
        require_current(name)
        self.name, self.key = name, key
        self.splits: dict[str, Arrays] = {}
        self.is_own = False

    def _arrays(self, split: str) -> Arrays:
        if split not in self.splits:
            found = self.splits[split] = Arrays(paths.payload("shard", self.name), split)
            if found.kind != "tower":
                raise Refused(f"'{self.name}' holds {found.kind}, expected tower. Change the key '{self.key}'.")
        return self.splits[split]

    @property
    def facts(self) -> dict[str, Any]:
        """What of them decides a cosine besides the pictures."""
        index = json.loads((paths.payload("shard", self.name) / INDEX_NAME).read_text(encoding="utf-8"))
        return {key: index["facts"].get(key) for key in ("dtype", "weights_hash")}

    def features(self, split: str, numbers: np.ndarray) -> "Tensor":
        """float32 [pictures, width]."""
        return features_at(self._arrays(split), numbers)

    def digests(self, split: str, numbers: np.ndarray) -> np.ndarray:
        """uint64 [pictures]: equal for equal pictures."""
        found: np.ndarray = self._arrays(split).arrays[DIGEST][numbers]
        return found

    def require_own(self, pair: "Pair", split: str, numbers: np.ndarray, pictures: list[bytes]) -> None:
        """Refuse features of other pictures; and once, by the first few of these, those of another tower.

        Raises:
            Refused: with the key that names them.
        """
        wanted = np.concatenate([digest_of(each) for each in pictures])
        if not np.array_equal(self.digests(split, numbers), wanted):
            raise Refused(f"The shards '{self.name}' are of other pictures. Run: hiraku shard {self.name}")
        if self.is_own:
            return
        found, own = self.features(split, numbers[:NUM_CHECKED]), pair.of_tower(pictures[:NUM_CHECKED])
        same_width = found.shape == own.shape
        gap = float(((found - own).norm(dim=1) / own.norm(dim=1)).max()) if same_width else 1.0
        if gap > TOLERANCE:
            what = f"differ from them by {gap:.0%}" if same_width else f"have {found.shape[1]} numbers a picture"
            raise Refused(
                f"The features of '{self.name}' are another tower's, or of pictures that were prepared in another way: "
                f"the model's own has {own.shape[1]} numbers a picture, and these {what}. Change or remove the key "
                f"'{self.key}'."
            )
        self.is_own = True

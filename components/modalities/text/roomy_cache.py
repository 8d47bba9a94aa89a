"""Keys and values of a generation, laid out with room: appending a token copies one token, not all before it."""

from functools import cache
from typing import Any

from transformers import Cache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """One layer: [rows, heads, tokens, size], the first tokens of larger tensors."""

    room = 0
    """Tokens laid out beyond those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: tuple[Any, Any] | None = None

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append keys and values; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        size = held + key_states.shape[-2]
        if self.whole is None or size > self.whole[0].shape[-2]:
            shape = (*key_states.shape[:-2], size + self.room, key_states.shape[-1])
            self.whole = (key_states.new_empty(shape), value_states.new_empty(shape))
            if held:
                self.whole[0][..., :held, :] = self.keys
                self.whole[1][..., :held, :] = self.values
        self.whole[0][..., held:size, :] = key_states
        self.whole[1][..., held:size, :] = value_states
        self.keys, self.values = self.whole[0][..., :size, :], self.whole[1][..., :size, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Any) -> None:
        """Keep some rows; the next token lays them out anew."""
        super().batch_select_indices(indices)
        self.whole = None


@cache
def _layer(room: int) -> type[RoomyLayer]:
    return type("RoomyLayer", (RoomyLayer,), {"room": room})


def roomy_cache(room: int) -> Cache:
    """An empty cache with room for so many tokens more than it is first given."""
    return Cache(layer_class_to_replicate=_layer(room))

"""What each token of a vocabulary stands for, by itself."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

LONGEST_CHARACTER = 4  # bytes of UTF-8


class Vocabulary:
    """The tokens of one tokenizer: which are special, and which are bytes rather than characters."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self.special = frozenset(token for token, name in tokenizer.added_tokens_decoder.items() if name.special)
        decoder = self._tokenizer.decoder
        steps = set() if decoder is None else _types(json.loads(decoder.__getstate__()))
        falls_back = "ByteFallback" in steps
        self._bytes = _bytes_of_fallback(self._tokenizer) if falls_back else {}
        self._letters = _bytes_of_letters() if "ByteLevel" in steps else {}
        # Behind another token: some tokenizers drop the space of a text's first one.
        self._before = self._tokenizer.encode("a", add_special_tokens=False).ids
        self._texts: dict[int, str] = {}

    def is_byte(self, token: int) -> bool:
        """Whether it is one of the tokens that stand for a byte each, beside others that stand for characters."""
        return token in self._bytes

    def text(self, token: int) -> str:
        """The text of a token in the middle of a text; special ones by their names."""
        if token not in self._texts:
            known = len(self._tokenizer.decode(self._before, skip_special_tokens=False))
            whole = self._tokenizer.decode([*self._before, token], skip_special_tokens=False)
            self._texts[token] = whole[known:]
        return self._texts[token]

    def data(self, token: int, text: str) -> bytes:
        """The bytes that a token adds where it adds this text: it may be a part of a character, or end in one."""
        if token in self.special:
            return b""
        if token in self._bytes:
            return self._bytes[token]
        if self._letters:
            name = self._tokenizer.id_to_token(token) or ""
            if all(letter in self._letters for letter in name):
                return bytes(self._letters[letter] for letter in name)
        return text.encode()

    def end_in_a_part(self, ids: Sequence[int]) -> bool:
        """Whether the bytes of these tokens, none of which is special or `is_byte`, end in a part of a character."""
        if not self._letters:  # tokens are characters
            return False
        end = b""
        for token in reversed(ids):
            end = self.data(token, self._tokenizer.id_to_token(token) or "") + end
            if len(end) >= LONGEST_CHARACTER:
                break
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(end)
        waiting, _ = decoder.getstate()
        return bool(waiting)


_VOCABULARIES: WeakKeyDictionary[PreTrainedTokenizerBase, Vocabulary] = WeakKeyDictionary()


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Return the tokenizer's vocabulary, which is made once: nothing may be added to the tokenizer behind that."""
    if tokenizer not in _VOCABULARIES:
        _VOCABULARIES[tokenizer] = Vocabulary(tokenizer)
    return _VOCABULARIES[tokenizer]


def _types(step: dict[str, Any]) -> set[str]:
    """The types of a decoder and of all that it is made of."""
    return {step["type"]}.union(*map(_types, step.get("decoders", [])))


def _bytes_of_fallback(tokenizer: Tokenizer) -> dict[int, bytes]:
    found = {}
    for value in range(256):
        token = tokenizer.token_to_id(f"<0x{value:02X}>")
        if token is not None:
            found[token] = bytes([value])
    return found


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's letter for each byte: printable ones stand for themselves, for the others letters from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + n): value for n, value in enumerate(others)}

"""Text to token ids: as a text begins, as it goes on in the middle of one, and as text whatever it spells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

from colllm_ray.errors import ColllmError

Offsets = list[tuple[int, int]]  # for each token the characters that it stands for: begin, end


@dataclass(frozen=True)
class Tokens:
    """Token ids, and the characters of the text that each stands for; together they cover all of it."""

    ids: list[int]
    offsets: Offsets

    def __add__(self, behind: Tokens) -> Tokens:
        """`behind` counts its characters from where this one ends."""
        end = self.offsets[-1][1] if self.offsets else 0
        moved = [(end + begin, end + stop) for begin, stop in behind.offsets]
        return Tokens(self.ids + behind.ids, self.offsets + moved)


class TextEncoder:
    """Encodes with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._whole: Tokenizer = tokenizer.backend_tokenizer
        self._whole.no_truncation()
        self._whole.no_padding()
        self._middle = _without_beginning(self._whole)
        self._end = int(tokenizer.eos_token_id)
        added = tokenizer.added_tokens_decoder
        self.added = frozenset(added)  # tokens that are looked for before all others
        self.special = any_of([name.content for name in added.values() if name.special])
        self.marks = frozenset(token for token, name in added.items() if not name.content.isspace())

    def begin(self, texts: Sequence[str], adds_special_tokens: bool) -> list[Tokens]:
        """Encode texts as the tokenizer does, without the end token that some write behind a text."""
        encoded = []
        for encoding in self._whole.encode_batch(list(texts), add_special_tokens=adds_special_tokens):
            ids, is_added = encoding.ids, encoding.special_tokens_mask  # a token that was typed is none of these
            stop = len(ids) - (bool(ids) and ids[-1] == self._end and is_added[-1] == 1)
            encoded.append(Tokens(ids[:stop], _gapless(encoding.offsets[:stop])))
        return encoded

    def go_on(self, text: str) -> Tokens:
        """Encode what stands behind other text: without what the tokenizer puts before a text that begins."""
        (whole,) = self.begin([text], adds_special_tokens=False)
        first = next((t for t, token in enumerate(whole.ids) if token in self.added), len(whole.ids))
        cut = whole.offsets[first][0] if first < len(whole.ids) else len(text)
        rest = Tokens(whole.ids[first:], [(begin - cut, stop - cut) for begin, stop in whole.offsets[first:]])
        return self._in_the_middle(text[:cut]) + rest

    def spell(self, text: str) -> Tokens:
        """Encode the name of an added token as the text that it is. Raises ColllmError where nothing spells it."""
        spelled = self._in_the_middle(text)
        if not self.added.isdisjoint(spelled.ids):
            spelled = Tokens([], [])
            for character in text:
                spelled += self._in_the_middle(character)
        if not self.added.isdisjoint(spelled.ids):
            raise ColllmError(f"{text!r} stands in it, which the base's tokenizer cannot write as text")
        return spelled

    def _in_the_middle(self, text: str) -> Tokens:
        encoding = self._middle.encode(text, add_special_tokens=False)
        return Tokens(encoding.ids, _gapless(encoding.offsets))


_ENCODERS: WeakKeyDictionary[PreTrainedTokenizerBase, TextEncoder] = WeakKeyDictionary()


def text_encoder(tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """Return the tokenizer's encoder, which is made once: nothing may be added to the tokenizer behind that."""
    if tokenizer not in _ENCODERS:
        _ENCODERS[tokenizer] = TextEncoder(tokenizer)
    return _ENCODERS[tokenizer]


def any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Match any of the names; longer ones first, since they may begin with shorter ones."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")


def _gapless(offsets: Offsets) -> Offsets:
    """Some tokenizers leave a token's space out of its characters: what no token covers belongs to the next one."""
    mended, covered = [], 0
    for begin, stop in offsets:
        mended.append((min(begin, covered), stop))
        covered = max(covered, stop)
    return mended


def _without_beginning(whole: Tokenizer) -> Tokenizer:
    """The same model and steps without added tokens, and without what they do to a text's first characters."""
    middle = Tokenizer(whole.model)
    steps = {"normalizer": whole.normalizer, "pre_tokenizer": whole.pre_tokenizer}
    described = {name: step and _mended(json.loads(step.__getstate__())) for name, step in steps.items()}
    empty = json.loads(Tokenizer(models.BPE()).to_str())
    parsed = Tokenizer.from_str(json.dumps({**empty, **described}))
    for name, step in described.items():
        if step is not None:
            setattr(middle, name, getattr(parsed, name))
    return middle


def _mended(step: dict[str, Any]) -> dict[str, Any] | None:
    """A step of a tokenizer as its file describes it, without its beginning; None where nothing is left of it."""
    match step["type"]:
        case "Sequence":
            (key,) = step.keys() & {"normalizers", "pretokenizers"}
            kept = [one for one in map(_mended, step[key]) if one is not None]
            return {**step, key: kept} if kept else None
        case "Prepend":
            return None
        case "Metaspace":
            return {**step, "prepend_scheme": "never"}
        case "ByteLevel":
            return {**step, "add_prefix_space": False}
        case "Strip":
            return {**step, "strip_left": False}
    return step

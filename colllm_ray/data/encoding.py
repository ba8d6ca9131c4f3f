"""From a text with answers in it to token ids and a target mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

Offsets = list[tuple[int, int]]  # for each token the characters that it stands for: begin, end


@dataclass(frozen=True)
class AnsweredText:
    """`answers` are the characters, begin and end, that models learn to write, in order and apart from each other.

    Each goes on to the special token behind it, which ends the answer. A chat template writes special tokens itself;
    to other text the tokenizer `adds_special_tokens`.
    """

    text: str
    answers: tuple[tuple[int, int], ...]
    adds_special_tokens: bool


@dataclass(frozen=True)
class Encoded:
    """Token ids, and whether each is a target."""

    input_ids: list[int]
    target_mask: list[bool]


def encode(texts: Sequence[AnsweredText], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """All texts, with the tokenizer called once for each of the two kinds: fast ones share a batch among the cores."""
    special = special_tokens(tokenizer)
    encoded: dict[int, Encoded] = {}
    for adds in (False, True):
        kind = {i: text for i, text in enumerate(texts) if text.adds_special_tokens is adds}
        ids_and_offsets = _tokenize([text.text for text in kind.values()], adds, tokenizer)
        for (i, text), (ids, offsets) in zip(kind.items(), ids_and_offsets, strict=True):
            if not all(_splits_at(begin, offsets) for begin, _ in text.answers):
                ids, offsets = _in_pieces(text, tokenizer)
            encoded[i] = _masked(text, ids, offsets, special, int(tokenizer.eos_token_id))
    return [encoded[i] for i in range(len(texts))]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """All tokens that are no text: those that the tokenizer has names for, and others that were added as special."""
    added = (token for token, content in tokenizer.added_tokens_decoder.items() if content.special)
    return frozenset((*tokenizer.all_special_ids, *added))


def _tokenize(
    texts: list[str], adds_special_tokens: bool, tokenizer: PreTrainedTokenizerBase
) -> list[tuple[list[int], Offsets]]:
    """Without the end token that some tokenizers write behind a text."""
    if not texts:
        return []
    batch = tokenizer(texts, add_special_tokens=adds_special_tokens, return_offsets_mapping=True, verbose=False)
    all_ids, end = batch["input_ids"], tokenizer.eos_token_id
    stops = [len(ids) - (adds_special_tokens and bool(ids) and ids[-1] == end) for ids in all_ids]
    return [
        (list(ids[:stop]), _gapless(offsets[:stop]))
        for ids, offsets, stop in zip(all_ids, batch["offset_mapping"], stops, strict=True)
    ]


def _gapless(offsets: Offsets) -> Offsets:
    """Some tokenizers leave a token's space out of its characters: what no token covers belongs to the next one."""
    mended, covered = [], 0
    for begin, stop in offsets:
        mended.append((min(begin, covered), stop))
        covered = max(covered, stop)
    return mended


def _splits_at(character: int, offsets: Offsets) -> bool:
    """Whether no token is half before a character and half behind it."""
    return not any(begin < character < stop for begin, stop in offsets)


def _in_pieces(text: AnsweredText, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], Offsets]:
    """Each answer begins with a token of its own, as when a model writes it behind the prompt."""
    cuts = [0, *(begin for begin, _ in text.answers), len(text.text)]
    ids: list[int] = []
    offsets: Offsets = []
    for piece, (begin, stop) in enumerate(pairwise(cuts)):
        adds = text.adds_special_tokens and piece == 0
        ((piece_ids, piece_offsets),) = _tokenize([text.text[begin:stop]], adds, tokenizer)
        ids += piece_ids
        offsets += [(begin + first, begin + last) for first, last in piece_offsets]
    return ids, offsets


def _masked(text: AnsweredText, ids: list[int], offsets: Offsets, special: frozenset[int], end: int) -> Encoded:
    mask = [False] * len(ids)
    begins = [begin for begin, _ in text.answers]
    for (begin, stop), limit in zip(text.answers, [*begins[1:], None], strict=True):
        inside = [t for t, (first, _) in enumerate(offsets) if first >= begin and (limit is None or first < limit)]
        ending = next((t for t in inside if ids[t] in special and offsets[t][0] >= stop), None)
        if ending is not None:
            targets = [t for t in inside if t <= ending]
        elif limit is None:  # nothing ends the text: its end does
            ids, mask = [*ids, end], [*mask, True]
            targets = inside
        else:
            targets = [t for t in inside if offsets[t][1] <= stop]
        for t in targets:
            mask[t] = True
    return Encoded(ids, mask)

"""From a text with answers in it to token ids and a target mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.text_encoder import TextEncoder, Tokens, text_encoder

Spans = tuple[tuple[int, int], ...]  # of characters: begin, end; in order and apart from each other


@dataclass(frozen=True)
class AnsweredText:
    """A text, and in it the `answers`, which models learn to write.

    Each goes on to the added token behind it, which ends the answer. `spelled` are names of added tokens that stand
    there as text. A chat template writes special tokens itself; to other text the tokenizer `adds_special_tokens`.
    """

    text: str
    answers: Spans = ()
    spelled: Spans = ()
    adds_special_tokens: bool = False


@dataclass(frozen=True)
class Encoded:
    """Token ids, and whether each is a target."""

    input_ids: list[int]
    target_mask: list[bool]


def encode(texts: Sequence[AnsweredText], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Encode all texts, each answer as a model writes it: behind the very tokens that its prompt has alone.

    Raises ColllmError where a spelled name cannot be written.
    """
    ending, end = text_encoder(tokenizer).marks, int(tokenizer.eos_token_id)
    tokenized = zip(texts, tokenize(texts, tokenizer), strict=True)
    return [_masked(text, tokens, ending, end) for text, tokens in tokenized]


def tokenize(texts: Sequence[AnsweredText], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """The tokens of all texts, as `encode` has them. Raises ColllmError where a spelled name cannot be written."""
    encoder = text_encoder(tokenizer)
    encoded: dict[int, Tokens] = {}
    for adds in (False, True):
        kind = [i for i, text in enumerate(texts) if text.adds_special_tokens is adds]
        encoded.update(zip(kind, encoder.begin([texts[i].text for i in kind], adds), strict=True))
    whole = [encoded[i] for i in range(len(texts))]
    return [
        _in_pieces(text, melted, encoder) if text.spelled or melted else tokens
        for text, tokens, melted in zip(texts, whole, _melted(texts, whole, encoder), strict=True)
    ]


def _melted(texts: Sequence[AnsweredText], encoded: Sequence[Tokens], encoder: TextEncoder) -> list[list[int]]:
    """For each text, where answers begin whose prompts have other tokens when they stand alone."""
    # What is before an added token has no part in what comes behind it: from the last one on is enough to encode again.
    windows: list[tuple[int, int, list[int], str]] = []  # text, where the answer begins, tokens and text before it
    for i, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
        for begin, _ in text.answers:
            before = sum(stop <= begin for _, stop in tokens.offsets)
            first, from_there = _last_added(tokens, before, encoder.added)
            windows.append((i, begin, tokens.ids[first:before], text.text[from_there:begin]))
    alone = encoder.begin([text for *_, text in windows], adds_special_tokens=False)
    melted: list[list[int]] = [[] for _ in texts]
    for (i, begin, ids, _), prompt in zip(windows, alone, strict=True):
        if prompt.ids != ids:
            melted[i].append(begin)
    return melted


def _last_added(tokens: Tokens, before: int, added: frozenset[int]) -> tuple[int, int]:
    """The last added token of the first ones, and its first character; else where the text itself begins."""
    first, character = 0, 0
    for t, (begin, stop) in enumerate(tokens.offsets[:before]):
        if begin == stop == 0:  # the tokenizer puts it before all texts
            first = t + 1
        elif tokens.ids[t] in added:
            first, character = t, begin
    return first, character


def _in_pieces(text: AnsweredText, melted: Sequence[int], encoder: TextEncoder) -> Tokens:
    """Encode piece by piece, cut around what is spelled and where answers begin that melt with their prompts."""
    begins = [begin for begin, _ in text.answers] if text.spelled else melted
    cuts = sorted({0, len(text.text), *begins, *chain.from_iterable(text.spelled)})
    tokens = Tokens([], [])
    for begin, stop in pairwise(cuts):
        piece = text.text[begin:stop]
        if (begin, stop) in text.spelled:
            tokens += encoder.spell(piece)
        elif begin == 0:
            (tokens,) = encoder.begin([piece], text.adds_special_tokens)
        else:
            tokens += encoder.go_on(piece)
    return tokens


def _masked(text: AnsweredText, tokens: Tokens, ending: frozenset[int], end: int) -> Encoded:
    ids, offsets = tokens.ids, tokens.offsets
    mask = [False] * len(ids)
    begins = [begin for begin, _ in text.answers]
    for (begin, stop), limit in zip(text.answers, [*begins[1:], None], strict=True):
        inside = [t for t, (first, _) in enumerate(offsets) if first >= begin and (limit is None or first < limit)]
        last = next((t for t in inside if ids[t] in ending and offsets[t][0] >= stop), None)
        if last is not None:
            targets = [t for t in inside if t <= last]
        elif limit is None:
            targets = inside
            if not inside or ids[inside[-1]] != end:  # nothing ends the text: its end does
                ids, mask = [*ids, end], [*mask, True]
        else:
            targets = [t for t in inside if offsets[t][1] <= stop]
        for t in targets:
            mask[t] = True
    return Encoded(ids, mask)

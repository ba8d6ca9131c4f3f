"""Token ids back to text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"  # what an incomplete character decodes to


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of an answer, without end token and other special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def pieces_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds; "" for special tokens and for all but the last of a character of several."""
    pieces, before, done = [], 0, 0
    for end in range(1, len(ids) + 1):
        # Decoded together with the piece before it: some tokenizers drop the space of a text's first token.
        old, new = text_of(ids[before:done], tokenizer), text_of(ids[before:end], tokenizer)
        if new.endswith(REPLACEMENT):
            pieces.append("")
            continue
        pieces.append(new[len(old) :])
        before, done = done, end
    if pieces:  # a character that the answer was cut in
        pieces[-1] += text_of(ids, tokenizer)[len("".join(pieces)) :]
    return pieces

"""Token ids back to text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"  # what an incomplete character decodes to
LONGEST_CHARACTER = 4  # bytes, and so tokens: what is longer never becomes one


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of an answer, without end token and other special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


class PieceStream:
    """Turns the tokens of an answer into text as they come."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # from the piece before on
        self._done = 0  # of them, those whose text is known

    @property
    def is_complete(self) -> bool:
        """Whether all tokens have become text: else the last ones are a part of a character."""
        return self._done == len(self._ids)

    def add(self, token: int) -> str:
        """The text that is known with this token; "" for a special token, and for a part of a character."""
        self._ids.append(token)
        piece = self.rest()
        if piece.endswith(REPLACEMENT) and len(self._ids) - self._done < LONGEST_CHARACTER:
            return ""
        self._ids = self._ids[self._done :]
        self._done = len(self._ids)
        return piece

    def rest(self) -> str:
        """The text of the tokens that are not complete."""
        # Decoded together with the piece before it: some tokenizers drop the space of a text's first token.
        known = text_of(self._ids[: self._done], self._tokenizer)
        return text_of(self._ids, self._tokenizer)[len(known) :]


def pieces_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds; "" for special tokens and for all but the last of a character of several."""
    stream = PieceStream(tokenizer)
    pieces = [stream.add(token) for token in ids]
    if not stream.is_complete:  # a character that the answer was cut in
        pieces[-1] += stream.rest()
    return pieces


class TokenTexts(dict[int, str]):
    """What each token stands for in the middle of a text, special tokens by their names."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        # Decoded behind another one: some tokenizers drop the space of a text's first token.
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"]
        self._known = len(tokenizer.decode(self._before))

    def __missing__(self, token: int) -> str:
        text = self[token] = str(self._tokenizer.decode([*self._before, token]))[self._known :]
        return text

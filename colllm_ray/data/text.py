"""Token ids back to text: the text of a token is what it adds to the text of all tokens before it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from colllm_ray.data.vocabulary import vocabulary

REPLACEMENT = "\ufffd"  # what a part of a character decodes to
CONTEXT = 8  # tokens: what the next one adds does not depend on more


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of all tokens of a text, without special ones."""
    return _decode(ids, tokenizer.backend_tokenizer)


def text_behind(prompt: Sequence[int], ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text that tokens add to that of a prompt, without special ones."""
    return "".join(pieces_behind(prompt, ids, tokenizer))


def pieces_behind(prompt: Sequence[int], ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token behind a prompt adds."""
    stream = TextStream(tokenizer, prompt)
    return [piece for token in ids for piece in stream.add(token)] + stream.rest()


class TextStream:
    """Turns the tokens behind a prompt into text as they come, a piece a token.

    Joined, the pieces of prompt and answer are what `decode` makes of all their tokens, wherever these end. A character
    of several tokens is in the piece of its last one; special tokens have an empty one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int] = ()) -> None:
        self._vocabulary = vocabulary(tokenizer)
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._pieces: list[str] = []  # that are known, but for what a part of a character will be,
        self._open = 0  # which is in this one of them
        self._run: list[int | None] = []  # byte tokens: what they make is known when they are over. None: no text
        self._window = self._end_of(prompt)  # the last tokens, on which the text of the next one depends
        run = len(self._window)
        while run and self._vocabulary.is_byte(self._window[run - 1]):
            run -= 1
        self._run += self._window[run:]
        self._run_of_prompt = len(self._run)
        self._known = len(self._sure(self._window[:run], _decode(self._window[:run], self._tokenizer)))  # characters

    def add(self, token: int) -> list[str]:
        """Take a token in; return the pieces, in order, of those whose text is known now."""
        if token in self._vocabulary.special:
            return self.add_without_text()
        self._window.append(token)
        if self._vocabulary.is_byte(token):
            self._run.append(token)
            return []
        self._end_run(self._window[:-1])
        text = _decode(self._window, self._tokenizer)
        sure = self._sure(self._window, text)
        piece, self._known = sure[self._known :], len(sure)
        self._shorten()
        if sure == text:
            return [*self._taken(), piece]
        told = self._taken() if piece else []
        self._pieces.append(piece)
        self._open = len(self._pieces) - 1
        return told

    def add_without_text(self) -> list[str]:
        """As `add`, for a token that says nothing, such as the one that ends an answer."""
        if self._run:
            self._run.append(None)
            return []
        if self._pieces:
            self._pieces.append("")
            return []
        return [""]

    def rest(self) -> list[str]:
        """The pieces of all other tokens, once no more come: also of a character that the text is cut in."""
        self._end_run(self._window)
        text = _decode(self._window, self._tokenizer)
        if self._pieces:
            self._pieces[self._open] += text[self._known :]
        self._known = len(text)
        return self._taken()

    def so_far(self) -> list[str]:
        """The pieces of the tokens that are not known yet, without the part of a character that the last ones are."""
        return [*self._pieces, *_characters(self._run_data(), is_over=False)]

    def _taken(self) -> list[str]:
        taken, self._pieces = self._pieces, []
        return taken

    def _run_data(self) -> list[bytes]:
        return [b"" if token is None else self._vocabulary.data(token, "") for token in self._run]

    def _end_run(self, window: Sequence[int]) -> None:
        if not self._run:
            return
        text = _decode(window, self._tokenizer)
        pieces = _characters(self._run_data(), is_over=True)
        taken_away = len("".join(pieces)) - len(text[self._known :])  # a space where a text begins
        first = next((i for i, piece in enumerate(pieces) if piece), 0)
        pieces[first] = pieces[first][taken_away:]
        self._pieces += pieces[self._run_of_prompt :]
        self._open = len(self._pieces) - 1
        self._run, self._run_of_prompt, self._known = [], 0, len(text)

    def _sure(self, ids: Sequence[int], text: str) -> str:
        """The text of these tokens without the part of a character at its end, which other tokens may complete."""
        is_cut = text.endswith(REPLACEMENT) and self._vocabulary.end_in_a_part(ids)
        return text.removesuffix(REPLACEMENT) if is_cut else text

    def _shorten(self) -> None:
        if len(self._window) > 4 * CONTEXT:
            before = len(_decode(self._window, self._tokenizer)) - self._known
            self._window = self._end_of(self._window)
            self._known = len(_decode(self._window, self._tokenizer)) - before

    def _end_of(self, ids: Sequence[int]) -> list[int]:
        """The last tokens that are text: as many as the next one's text depends on."""
        window: list[int] = []
        for token in reversed(ids):
            if token in self._vocabulary.special:
                continue
            # Some decoders take the space away from the first token that has text: one must be before the next.
            is_enough = len(window) >= CONTEXT and not self._vocabulary.is_byte(window[-1])
            if is_enough and _decode(window[::-1], self._tokenizer):
                break
            window.append(token)
        return window[::-1]


def _decode(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _characters(data: Sequence[bytes], is_over: bool) -> list[str]:
    """The text of a run of bytes, a piece for each: where they are no characters, all of them are replaced."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        pieces = [decoder.decode(one) for one in data]
        decoder.decode(b"", final=is_over)
    except UnicodeDecodeError:
        return [REPLACEMENT if one else "" for one in data]
    return pieces

"""The text of an answer as its tokens come, up to a stop text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.text import TextStream, pieces_behind
from colllm_ray.data.vocabulary import vocabulary
from colllm_ray.decoding.written import WrittenToken


@dataclass(frozen=True)
class Piece:
    """A token, the text that it adds, and the bytes: those of all tokens are the text's, also where one is a part of a
    character and adds no text."""

    written: WrittenToken
    text: str
    data: bytes = b""


class AnswerText:
    """Gives each token once its text is known, and known not to be part of a stop text; in order, and once.

    What stands before a stop text is given; the stop text is not, nor are the tokens that it is made of alone. `ends`
    are tokens that end an answer, and so add no text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Sequence[int],
        stops: Sequence[str] = (),
        ends: Set[int] = frozenset(),
    ) -> None:
        self._stream = TextStream(tokenizer, prompt)
        self._vocabulary = vocabulary(tokenizer)
        self._stops = stops
        self._ends = ends
        self._waiting: deque[WrittenToken] = deque()  # tokens whose text is not known
        self._held: list[Piece] = []
        self.tokens = 0  # that were taken in
        self.stopped = False

    def add(self, tokens: Iterable[WrittenToken]) -> list[Piece]:
        """Takes tokens in, as far as the answer goes; gives what is known now."""
        given: list[Piece] = []
        for written in tokens:
            if self.stopped:
                break
            self.tokens += 1
            self._waiting.append(written)
            is_end = written.token in self._ends
            given += self._told(self._stream.add_without_text() if is_end else self._stream.add(written.token))
        return given

    def rest(self) -> list[Piece]:
        """What was held back, once no more tokens come: also a character that the answer was cut in."""
        if self.stopped:
            return []
        given = self._told(self._stream.rest())
        given += self._held
        self._held = []
        return given

    def _told(self, texts: Sequence[str]) -> list[Piece]:
        """What is known now that the first tokens that wait have these texts."""
        if not texts:
            return []
        for text in texts:
            written = self._waiting.popleft()
            data = b"" if written.token in self._ends else self._vocabulary.data(written.token, text)
            self._held.append(Piece(written, text, data))
        return self._known()

    def _known(self) -> list[Piece]:
        text = "".join(piece.text for piece in self._held)
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            given, self._held = _up_to(self._held, min(found)), []
            return given
        sure = len(text) - max((_begun(stop, text) for stop in self._stops), default=0)
        given, length = [], 0
        for piece in self._held:
            length += len(piece.text)
            if length > sure:
                break
            given.append(piece)
        del self._held[: len(given)]
        return given


def pieces_of(
    answer: Iterable[WrittenToken],
    prompt: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    ends: Set[int],
    stops: Sequence[str] = (),
) -> list[Piece]:
    """The tokens of a whole answer with their texts, up to a stop text."""
    text = AnswerText(tokenizer, prompt, stops, ends)
    return text.add(answer) + text.rest()


def echo_of(prompt: Sequence[WrittenToken], tokenizer: PreTrainedTokenizerBase, is_whole: bool) -> list[Piece]:
    """A prompt's tokens with their texts; of one that `is_whole`, also of a character that its end is a part of."""
    ids = [written.token for written in prompt]
    if is_whole:
        texts = pieces_behind((), ids, tokenizer)
    else:
        stream = TextStream(tokenizer)
        texts = [text for token in ids for text in stream.add(token)] + stream.so_far()
    words = vocabulary(tokenizer)
    return [Piece(one, text, words.data(one.token, text)) for one, text in zip(prompt, texts, strict=True)]


def _begun(stop: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def _up_to(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """The pieces of the first `length` characters, the last one cut."""
    given: list[Piece] = []
    for piece in pieces:
        if length <= 0:
            break
        given.append(piece if len(piece.text) <= length else _cut(piece, length))
        length -= len(piece.text)
    return given


def _cut(piece: Piece, length: int) -> Piece:
    whole = piece.text.encode()
    # The text may begin with bytes of tokens before it: a character is in the piece of its last token.
    borrowed = next((n for n in range(4) if piece.data.startswith(whole[n:])), 0)
    text = piece.text[:length]
    return replace(piece, text=text, data=piece.data[: max(len(text.encode()) - borrowed, 0)])

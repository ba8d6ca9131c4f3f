"""The base's chat template: what it makes of a conversation, and what of that people have typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from colllm_ray.data.encoding import Spans
from colllm_ray.data.rows import Message
from colllm_ray.data.text_encoder import any_of
from colllm_ray.errors import ColllmError

GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")
NO_CHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))  # code points that Unicode keeps free of characters


@dataclass(frozen=True)
class Rendered:
    """A conversation as text; `spelled` are names of the template's tokens that somebody has typed."""

    text: str
    spelled: Spans = ()


class ChatTemplate:
    """One chat template of a tokenizer. All methods raise ColllmError where it refuses the messages."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
        self._source = source
        self._names = dict(tokenizer.special_tokens_map)
        self._in_parts: dict[tuple[str, ...], frozenset[str]] = {}
        added = tokenizer.added_tokens_decoder.values()
        special = [token.content for token in added if token.special]
        plain = [token.content for token in added if not token.special and not token.content.isspace()]
        around_turns = self._around_turns()
        marks = [name for name in plain if name in around_turns]
        others = [name for name in plain if name in source]
        # The assistant may write what stands around no turn, such as the marks of its thoughts.
        self._controls = {"assistant": any_of(special + marks), "user": any_of(special + marks + others)}

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> Rendered:
        """The conversation as the template writes it, up to where the assistant goes on if a prompt is wanted.

        Raises ColllmError as well where it leaves out what somebody says.
        """
        in_parts = self._roles_in_parts(messages)
        typed = [message.content for message in messages]
        if not any(self._control(message).search(message.content) for message in messages):
            return Rendered(self._render(messages, typed, in_parts, add_generation_prompt))
        begin, end = _unused(typed)
        marked = [self._control(message).sub(rf"{begin}\g<0>{end}", message.content) for message in messages]
        return _without_marks(self._render(messages, marked, in_parts, add_generation_prompt), begin, end)

    def check_user(self) -> None:
        """Raises ColllmError where the words of a user alone are left out. A template may refuse them."""
        user = [Message(role="user", content="")]
        try:
            self._render(user, [""], frozenset(), add_generation_prompt=True)
        except ColllmError:
            return
        self._roles_in_parts(user)

    def generation_blocks(self, messages: Sequence[Message]) -> list[int]:
        """Where what the template itself marks as the assistant's begins, turn by turn."""
        if not GENERATION_BLOCK.search(self._source):
            return []
        contents = [message.content for message in messages]
        turns = _turns(messages, contents, self._roles_in_parts(messages))
        _, spans = self._computed(turns, return_assistant_tokens_mask=True)
        return [begin for begin, _ in spans]

    def _around_turns(self) -> str:
        """All that is written around what somebody says, in any of the conversations that the template takes."""
        words = NO_CHARACTERS[0]  # none of a template's own
        system, user, assistant = (Message(role=role, content=words) for role in ("system", "user", "assistant"))
        written = ""
        for before in ([], [system]):
            for turns, adds_prompt in (([*before, user, assistant], False), ([*before, user], True)):
                with suppress(ColllmError):  # a template with its own idea of a conversation
                    written += self._render(turns, [words for _ in turns], frozenset(), adds_prompt)
        return written

    def _control(self, message: Message) -> re.Pattern[str]:
        return self._controls["assistant" if message.role == "assistant" else "user"]

    def _roles_in_parts(self, messages: Sequence[Message]) -> frozenset[str]:
        """The roles whose words the template takes as a list of parts, where it does not take them as one text."""
        roles = tuple(message.role for message in messages)
        if roles not in self._in_parts:
            if len(self._in_parts) > 1000:
                self._in_parts.clear()
            self._in_parts[roles] = self._find_roles_in_parts(messages)
        return self._in_parts[roles]

    def _find_roles_in_parts(self, messages: Sequence[Message]) -> frozenset[str]:
        markers = [f"Qx{i}Zy" for i in range(len(messages))]
        in_parts: frozenset[str] = frozenset()
        text = self._render(messages, markers, in_parts, add_generation_prompt=False)
        while left_out := [i for i, marker in enumerate(markers) if marker not in text]:
            role = messages[left_out[0]].role
            refusal = ColllmError(f"the base's chat template leaves out what message {left_out[0]} ({role}) says")
            if role in in_parts:
                raise refusal
            in_parts |= {role}
            try:
                text = self._render(messages, markers, in_parts, add_generation_prompt=False)
            except ColllmError as error:  # it takes no parts
                raise refusal from error
            if str([_part(markers[left_out[0]])]) in text:  # it takes them for one text
                raise refusal
        return in_parts

    def _render(
        self,
        messages: Sequence[Message],
        contents: Sequence[str],
        in_parts: frozenset[str],
        add_generation_prompt: bool,
    ) -> str:
        text, _ = self._computed(_turns(messages, contents, in_parts), add_generation_prompt=add_generation_prompt)
        return text

    def _computed(self, turns: list[dict[str, object]], **options: bool) -> tuple[str, list[tuple[int, int]]]:
        """What the template makes of turns, and where in that the blocks lie that it marks as generated."""
        try:
            (text,), spans = render_jinja_template(
                conversations=[turns], chat_template=self._source, **options, **self._names
            )
        except Exception as error:  # a template is a program of somebody else's
            raise ColllmError(f"the base's chat template refuses the messages: {error}") from error
        return str(text), spans[0] if spans else []


_TEMPLATES: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, ChatTemplate]] = WeakKeyDictionary()


def chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    """Return the tokenizer's chat template, the default one of several; None where it has none."""
    if tokenizer.chat_template is None:
        return None
    try:
        source = tokenizer.get_chat_template()
    except ValueError as error:
        raise ColllmError(f"the base's tokenizer has several chat templates, none named `default`: {error}") from error
    known, template = _TEMPLATES.get(tokenizer, (None, None))
    if template is None or known != source:
        template = ChatTemplate(tokenizer, source)
        _TEMPLATES[tokenizer] = (source, template)
    return template


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ColllmError where the tokenizer's chat template leaves out what a user says."""
    template = chat_template(tokenizer)
    if template is not None:
        template.check_user()


def _unused(texts: Sequence[str]) -> tuple[str, str]:
    """Two code points that stand in none of the texts."""
    free = [code for code in NO_CHARACTERS if not any(code in text for text in texts)]
    if len(free) < 2:
        raise ColllmError("holds code points that are no characters (U+FDD0 to U+FDEF), all of them; leave them out")
    return free[0], free[1]


def _without_marks(text: str, begin: str, end: str) -> Rendered:
    spelled = []
    plain = ""
    for i, part in enumerate(re.split(f"{begin}([^{begin}{end}]*){end}", text)):
        part = part.replace(begin, "").replace(end, "")  # what a template has cut apart is no name any more
        if i % 2 and part:
            spelled.append((len(plain), len(plain) + len(part)))
        plain += part
    return Rendered(plain, tuple(spelled))


def _turns(messages: Sequence[Message], contents: Sequence[str], in_parts: frozenset[str]) -> list[dict[str, object]]:
    return [
        {
            "role": message.role,
            "content": [_part(content)] if message.role in in_parts else content,
            **({} if message.name is None else {"name": message.name}),
        }
        for message, content in zip(messages, contents, strict=True)
    ]


def _part(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}

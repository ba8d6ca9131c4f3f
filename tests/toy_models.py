"""Small tokenizers of the kinds that people have, and models whose answers are known beforehand.

`sentencepiece` is made as Llama 2, Mistral 7B and TinyLlama have theirs, `across` is byte-level, with a token that lies
over two characters; `write_bigram` makes a Llama that always writes the token that its chains say. Asked as
"model": "NAME/base", no head matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# It loops over the parts of the user's content: given one text instead, it writes none of it.
USER_PARTS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{% for p in m.content %}{{ p.text }}{% endfor %}"
    "{% else %}<|assistant|>{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def sentencepiece(
    words: Sequence[str] = (),
    merges: Sequence[tuple[str, str]] = (),
    special: Sequence[str] = (),
    plain: Sequence[str] = (),
    template: str | None = None,
    prefix_space: bool = True,
) -> PreTrainedTokenizerFast:
    """BPE with byte fallback; `words` and `merges` become tokens, `special` and `plain` are added tokens of a kind."""
    vocabulary = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))])}
    for letter in map(chr, [10, *range(33, 127), 0x2581]):
        vocabulary.setdefault(letter, len(vocabulary))
    pairs = [*merges, *((word[:i], word[i]) for word in words for i in range(1, len(word)))]
    for first, second in pairs:
        vocabulary.setdefault(first + second, len(vocabulary))
    bpe = models.BPE(
        vocab=vocabulary, merges=list(dict.fromkeys(pairs)), unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    raw = Tokenizer(bpe)
    to_spaces = normalizers.Replace(" ", "▁")
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), to_spaces] if prefix_space else [to_spaces])
    strip = [decoders.Strip(" ", 1, 0)] if prefix_space else []
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1), ("</s>", 2)])
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>", *special)])
    raw.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def unigram(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Unigram with byte fallback and a space before a text. Special tokens have pieces, which text could spell."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{b:02X}>", -10.0) for b in range(256))]
    pieces += [(letter, -5.0) for letter in map(chr, [10, *range(33, 127), 0x2581])]
    pieces += [(word, -6.0) for word in words]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def across() -> PreTrainedTokenizerFast:
    """Byte-level; the tokens of "éééé" are C3, A9C3, A9C3, A9C3, A9."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    first, second = list(pre.pre_tokenize_str("é")[0][0])
    vocabulary = {t: i for i, t in enumerate(["</s>", *sorted(pre.alphabet()), second + first])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[(second, first)]))
    raw.pre_tokenizer, raw.decoder = pre, decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


def write_bigram(folder: Path, tokenizer: PreTrainedTokenizerFast, *chains: Sequence[str]) -> Path:
    """A model each of whose tokens is followed by the next one of its chain, and the tokenizer; returns the folder."""
    size = math.ceil((max(tokenizer.get_vocab().values()) + 1) / 8) * 8
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for chain in chains:
            for before, behind in pairwise(tokenizer.convert_tokens_to_ids(list(chain))):
                model.lm_head.weight[behind, before] = 10
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

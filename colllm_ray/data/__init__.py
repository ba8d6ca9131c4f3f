"""From a user's rows to token ids and target masks.

In: JSONL rows of {"prompt", "completion"} or {"messages"}, and the base's tokenizer. Out: `Example`s. This room knows
no model but its tokenizer, and no Ray.
"""

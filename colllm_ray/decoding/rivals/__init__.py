"""Rival methods: other rules by which several models write one answer, to compare the collaboration with.

In: the text so far and what the models say about it, asked through a `Panel`. Out: the next token, or several. Each
rule is a small frozen dataclass that names its source; `rule.py` is the loop that all of them share. They run on the
engines, sessions and links of the collaboration, so that their costs compare.
"""

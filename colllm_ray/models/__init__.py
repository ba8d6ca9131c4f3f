"""What a member is: its configuration, its tokenizer, the names of its weights.

In: a collaboration. Out: what all its members share, or a refusal that names the member. No weights are read here,
nothing is computed, and Ray is not known.
"""

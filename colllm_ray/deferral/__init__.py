"""Who writes the next token: the head, its loss, its weak labels, the decision rule and its threshold.

In: hidden states and members' log-probs. Out: scores s_t, losses, authors, thresholds. Pure functions of tensors; this
room knows no model, no file but the head's own, and no Ray. Symbols as in docs/method.md.
"""

"""Who writes the next token: the head, its loss, its weak labels, the decision rule and its threshold.

In: hidden states and members' log-probs. Out: scores s_t, losses, authors, thresholds, all pure functions of tensors;
`trained.py` is the folder that training leaves. This room knows no language model and no Ray. Symbols as in
docs/method.md.
"""

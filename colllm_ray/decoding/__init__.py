"""The collaborative loop: one answer, written token by token by several models.

In: a prompt's token ids, the models behind their clients, a threshold. Out: tokens, each with its author. The loop
knows neither text nor where the models run; `team.py` puts a trained collaboration behind it. No Ray.
"""

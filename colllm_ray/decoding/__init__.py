"""The collaborative loop: one answer, written token by token by several models.

In: a prompt's token ids, the models behind their clients, a threshold. Out: tokens, each with its author. This room
knows neither text nor where the models run, and no Ray.
"""

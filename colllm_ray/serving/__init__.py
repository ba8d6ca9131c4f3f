"""A trained collaboration on Ray Serve: Ingress, Router, and one Expert deployment for each expert.

In: a trained collaboration and HTTP requests. Out: answers with the author of each token. The loop is decoding's.
"""

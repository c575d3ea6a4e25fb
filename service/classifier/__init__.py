"""Texts to labels from a few examples of each: by nearness, n-grams and likelihood, weighed."""

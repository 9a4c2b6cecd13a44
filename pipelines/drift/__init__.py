"""Drift: have the texts of an app moved? Samples in; embeddings and alerts out."""

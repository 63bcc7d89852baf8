"""Whole models: the joint embedding and how models are kept on disk."""

"""Helpers: one module a framework, each turning that framework's model into named tensors and back.

A helper is found by its name (registry), and nothing of a framework is imported before.
"""

"""Measurements of the platform, each a module with `main(arguments)`. Not part of the installed package."""

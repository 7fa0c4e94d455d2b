"""Made by proto/generate.py from proto/fedn/v1; edit those files, not these."""

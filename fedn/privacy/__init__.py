"""What keeps models from those who only carry them: keys, and encryption and decryption of whole models.

Runs where data owners are, never on a server: servers add ciphertexts without keys (fedn.aggregation.secagg). Not here:
what encrypted models are like in bytes (fedn.models.encrypted).
"""

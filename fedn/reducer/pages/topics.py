"""What pages are about, and which events change it."""

SESSIONS, ROUNDS, CLIENTS, COMBINERS, MODELS, PACKAGES, EVENTS, STORES, VITALS, WORKERS = (
    "sessions",
    "rounds",
    "clients",
    "combiners",
    "models",
    "packages",
    "events",
    "stores",
    "vitals",
    "workers",
)

_OF_KIND = {
    "client_attached": {CLIENTS},
    "client_detached": {CLIENTS},
    "combiner_added": {COMBINERS},
    "combiner_lost": {COMBINERS},
    "combiner_linked": {COMBINERS},
    "combiner_unlinked": {COMBINERS},
    "ledger_changed": {ROUNDS},
    "round_started": {ROUNDS},
    "round_failed": {ROUNDS},
    "round_committed": {ROUNDS, SESSIONS, MODELS},
    "model_seeded": {MODELS},
    "validation_added": {MODELS, ROUNDS},
    "package_uploaded": {PACKAGES},
    "package_activated": {PACKAGES},
    "session_started": {SESSIONS, ROUNDS},
    "session_finished": {SESSIONS, ROUNDS},
    "session_failed": {SESSIONS, ROUNDS},
    "session_stopped": {SESSIONS, ROUNDS},
    "store_unavailable": {STORES},
    "store_back": {STORES},
    "worker_detour": {COMBINERS},
}
KINDS = frozenset(_OF_KIND)
"""Kinds of events that are known here."""
_EVERYTHING = frozenset({SESSIONS, ROUNDS, CLIENTS, COMBINERS, MODELS, PACKAGES, STORES, EVENTS})


def topics_of(kind: str) -> frozenset[str]:
    """What an event of this kind changes; of a kind that is not known here, everything."""
    return _TOPICS.get(kind, _EVERYTHING)


_TOPICS = {kind: frozenset(topics) | {EVENTS} for kind, topics in _OF_KIND.items()}

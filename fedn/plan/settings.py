"""The settings of the three programs, each in a file of its own, with what loads them.

Loaded by `load_settings`: defaults, then a YAML file, then the environment, then flags. What a session does stands in
its plan (`session`), not here.
"""

from fedn.plan.settings_base import (
    EXAMPLE_SECRETS,
    ModelStoreSettings,
    Settings,
    StateStoreSettings,
    UpdateStoreSettings,
)
from fedn.plan.settings_client import ClientSettings
from fedn.plan.settings_combiner import CombinerSettings
from fedn.plan.settings_load import load_settings
from fedn.plan.settings_reducer import ReducerSettings
from fedn.plan.settings_site import SiteSettings

__all__ = [
    "EXAMPLE_SECRETS",
    "ClientSettings",
    "CombinerSettings",
    "ModelStoreSettings",
    "ReducerSettings",
    "Settings",
    "SiteSettings",
    "StateStoreSettings",
    "UpdateStoreSettings",
    "load_settings",
]

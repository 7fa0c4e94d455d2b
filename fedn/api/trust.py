"""The authority's certificate in a folder that the reducer fills: waited for, since sites may start before it."""

import asyncio
import logging

from fedn.plan.settings import SiteSettings

_LOG = logging.getLogger(__name__)
_FIRST_WAIT_S = 0.1
_MOST_WAIT_S = 2.0


async def wait_for_authority(settings: SiteSettings) -> None:
    """Returns when `ca_file` is there. Does not wait where nothing could come: no file is named, or no such folder.

    What is wrong with the file, or with its path, is told by whoever reads it (`join_of`).
    """
    path = settings.ca_file
    if path is None or settings.join is not None:
        return
    wait_s = _FIRST_WAIT_S
    while path.parent.is_dir() and not path.exists():
        if wait_s == _FIRST_WAIT_S:
            _LOG.info("waiting for the reducer's first start, which makes the authority: %s is not there yet", path)
        # The folder may lie on another machine, where no notice of a new file comes from.
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _MOST_WAIT_S)

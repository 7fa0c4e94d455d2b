"""Live pages: what changed on a page is rendered once, by one thread, for everybody who has that page open.

A page is a template whose blocks named `live_…` may change. Whoever watches it holds a place in its view; when an event
says that its topic changed, the view is rendered again and the blocks that differ go out to all its watchers as one
message, made once. A watcher that is slow, or comes back, gets the blocks that changed since what it has, as they are
now: nothing queues up, however slow it is.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedn.network.tokens import Role
from fedn.protocol.errors import FednError
from fedn.protocol.rest import EventView
from fedn.reducer.events import EventLog

log = logging.getLogger(__name__)

_PAUSE_S = 0.25
"""Between two renderings: events come in flocks."""
_SHARE = 4
"""The renderer rests so many times as long as it worked: watching takes a fifth of a core at the most."""
_MAX_PAUSE_S = 5.0

Regions = Mapping[str, str]
"""Name of a block to its HTML."""


@dataclass(frozen=True)
class ViewKey:
    """What one page shows to everybody of one role."""

    path: str
    """With its query."""
    role: Role


Render = Callable[[ViewKey], Regions]


@dataclass
class _View:
    key: ViewKey
    topics: frozenset[str]
    changed: threading.Condition
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    """Versions are this view's own: another one under the same address begins again."""
    watchers: int = 0
    stale: bool = False
    version: int = 0
    regions: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Name to HTML and the version that it came with."""
    trouble: str = ""
    """Why it cannot be rendered now."""
    messages: dict[int, bytes] = field(default_factory=dict)
    """Of this version: for watchers that have an earlier one, by that."""

    def take(self, rendered: Regions, trouble: str) -> bool:
        """Whether anything differs from what is there."""
        differs = {name: html for name, html in rendered.items() if self.regions.get(name, ("", 0))[0] != html}
        if not differs and trouble == self.trouble and self.version:
            return False
        self.version += 1
        self.trouble = trouble
        self.regions.update((name, (html, self.version)) for name, html in differs.items())
        self.messages.clear()
        return True

    def message(self, since: int) -> bytes:
        """What a watcher needs that has the version `since`."""
        if since not in self.messages:
            regions = {name: html for name, (html, version) in self.regions.items() if version > since}
            data = json.dumps({"regions": regions, "trouble": self.trouble}, ensure_ascii=False, separators=(",", ":"))
            self.messages[since] = f"id: {self.name}.{self.version}\nevent: regions\ndata: {data}\n\n".encode()
        return self.messages[since]


class LiveViews:
    """Thread-safe. `stop` ends all views; the rendering thread lives while somebody watches.

    Args:
        events: whose places for streams are shared with other streams; views learn from it what changed.
        topics_of: kind of event to the topics that it changes.
    """

    def __init__(self, events: EventLog, topics_of: Callable[[str], frozenset[str]]) -> None:
        self._events = events
        self._topics_of = topics_of
        self._render: Render | None = None
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._views: dict[ViewKey, _View] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        events.add_listener(self._note_event)

    def use(self, render: Render) -> None:
        """Sets what renders a page; before the first `watch`."""
        self._render = render

    def watch(self, key: ViewKey, topics: frozenset[str], last_seen: str = "") -> "Watcher":
        """A place at a page's changes.

        Args:
            last_seen: id of the last message that the watcher got before; empty: none.

        Raises:
            Unavailable: (`too_many_streams`).
            FednError: why the page cannot be shown.
        """
        self._events.take_place()
        try:
            view = self._enter(key, topics)
        except BaseException:
            self._events.leave_place()
            raise
        name, _, version = last_seen.partition(".")
        has = int(version) if name == view.name and version.isdecimal() and len(version) < 12 else 0
        return Watcher(self, view, has)

    def change(self, topic: str) -> None:
        """Something changed of which no event tells."""
        self._mark(frozenset({topic}))

    def stop(self) -> None:
        """Ends every watcher's stream."""
        with self._lock:
            self._stopping.set()
            self._work.notify_all()
            for view in self._views.values():
                view.changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    @property
    def views(self) -> int:
        """Pages that somebody watches; everybody who sees the same counts once."""
        with self._lock:
            return len(self._views)

    def _enter(self, key: ViewKey, topics: frozenset[str]) -> _View:
        with self._lock:
            view = self._views.get(key)
            if view is not None:
                view.watchers += 1
                return view
        # Rendered by who asks: a page that does not exist is an error of its own, and no view.
        rendered = self._rendered(key)
        with self._lock:
            view = self._views.get(key)
            if view is None:
                view = self._views[key] = _View(key, topics, threading.Condition(self._lock))
                view.take(rendered, "")
                view.stale = True  # what happened meanwhile was told to nobody
            view.watchers += 1
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="live-pages", daemon=True)
                self._thread.start()
            self._work.notify_all()
            return view

    def _leave(self, view: _View) -> None:
        with self._lock:
            view.watchers -= 1
            if not view.watchers and self._views.get(view.key) is view:
                del self._views[view.key]
                self._work.notify_all()
        self._events.leave_place()

    def _note_event(self, event: EventView) -> None:
        if self._views:
            self._mark(self._topics_of(event.kind))

    def _mark(self, topics: frozenset[str]) -> None:
        with self._lock:
            fresh = [view for view in self._views.values() if not view.stale and topics & view.topics]
            for view in fresh:
                view.stale = True
            if fresh:
                self._work.notify_all()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                begun = time.monotonic()
                self._render_stale()
                spent_s = time.monotonic() - begun
                self._stopping.wait(min(max(_PAUSE_S, _SHARE * spent_s), _MAX_PAUSE_S))
        finally:
            # A fault of ours ends the thread. Its watchers come back, as after a restart, and find another.
            with self._lock:
                self._thread = None
                views, self._views = self._views, {}
                for view in views.values():
                    view.version = -1
                    view.changed.notify_all()

    def _wait_for_work(self) -> bool:
        with self._lock:
            self._work.wait_for(
                lambda: self._stopping.is_set() or not self._views or any(view.stale for view in self._views.values())
            )
            return bool(self._views) and not self._stopping.is_set()

    def _render_stale(self) -> None:
        with self._lock:
            stale = [view for view in self._views.values() if view.stale]
            for view in stale:
                view.stale = False
        for view in stale:
            rendered, trouble = {}, ""
            try:
                rendered = dict(self._rendered(view.key))
            except FednError as error:
                trouble = f"{error.message}. {error.fix}".strip()
            with self._lock:
                if view.take(rendered, trouble):
                    view.changed.notify_all()

    def _rendered(self, key: ViewKey) -> Regions:
        assert self._render is not None, "`use` comes first"
        return self._render(key)

    def _next(self, view: _View, since: int, timeout_s: float) -> tuple[int, bytes] | None:
        with self._lock:
            view.changed.wait_for(lambda: self._stopping.is_set() or view.version not in {0, since}, timeout_s)
            if self._stopping.is_set() or view.version < 0:
                return None
            return view.version, view.message(since) if view.version != since else b""


class Watcher:
    """One reader's place at a page. Used by one thread; `close` may be called twice."""

    def __init__(self, views: LiveViews, view: _View, has: int) -> None:
        self._views = views
        self._view = view
        self._has = has
        self._open = True

    def next(self, timeout_s: float) -> bytes | None:
        """The message with what changed since the last call, waiting for it for at most `timeout_s` seconds: b"" where
        nothing did. None: the views have ended."""
        found = self._views._next(self._view, self._has, timeout_s)
        if found is None:
            return None
        self._has, message = found
        return message

    def close(self) -> None:
        if self._open:
            self._open = False
            self._views._leave(self._view)

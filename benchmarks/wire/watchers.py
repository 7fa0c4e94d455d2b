"""Many open dashboards in one process: streams of pages' changes over TLS, and when each said a word first.

Started with the address, the file of the authority's certificate, and a token's file. Reads lines of JSON: a number
opens so many streams and is answered when all have their page; a word is answered, when every stream of /clients has
brought it, with the times (Unix seconds) at which each did.
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

PAGES = ("/clients", "/", "/dashboard", "/network")
"""What is watched, in turn."""
_WITHIN_S = 120.0


class Watchers:
    def __init__(self, url: str, context: ssl.SSLContext, token: str) -> None:
        place = urlsplit(url)
        self._host, self._port = str(place.hostname), int(place.port or 443)
        self._context, self._token = context, token
        self._readers: list[asyncio.Task[None]] = []
        self._word = b""
        self._seen: dict[int, float] = {}
        self._listening: set[int] = set()
        self._changed = asyncio.Condition()

    async def open(self, count: int) -> None:
        """Returns when every stream has brought its page."""
        ready = [asyncio.Event() for _ in range(count)]
        for number, event in enumerate(ready):
            page = PAGES[number % len(PAGES)]
            if page == "/clients":
                self._listening.add(number)
            self._readers.append(asyncio.create_task(self._watch(number, page, event)))
        await asyncio.gather(*(event.wait() for event in ready))

    async def wait_for(self, word: str) -> list[float]:
        self._word = word.encode()
        self._seen = {}
        async with self._changed:
            await self._changed.wait_for(lambda: self._seen.keys() >= self._listening)
        return sorted(self._seen.values())

    async def _watch(self, number: int, page: str, ready: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._context, limit=1 << 24)
        head = f"GET {page} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAccept: text/event-stream\r\n"
        writer.write(f"{head}Authorization: Bearer {self._token}\r\n\r\n".encode())
        try:
            status = await reader.readline()
            if b" 200 " not in status:
                raise ConnectionError(f"{page} answered {status!r}")
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    ready.set()
                    if number in self._listening and self._word and self._word in line and number not in self._seen:
                        self._seen[number] = time.time()
                        async with self._changed:
                            self._changed.notify_all()
        finally:
            writer.close()


async def _serve(url: str, ca: str, token_file: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    token = await asyncio.to_thread(Path(token_file).read_text)
    watchers = Watchers(url, context, token)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        if isinstance(asked, int):
            await asyncio.wait_for(watchers.open(asked), _WITHIN_S)
            answer: object = asked
        else:
            answer = await asyncio.wait_for(watchers.wait_for(asked), _WITHIN_S)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:4]))

"""A server in a thread of its own, with an asyncio loop of its own."""

import asyncio
import threading


class LoopThread:
    """Runs what `start` makes, an asyncio server, from construction to stop(). `port`: where it listens on TCP."""

    def __init__(self, start, on_error=None):
        self.port = None
        self._on_error = on_error
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, args=(start,), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _main(self, start):
        asyncio.set_event_loop(self._loop)
        if self._on_error:
            self._loop.set_exception_handler(self._on_error)
        server = self._loop.run_until_complete(start())
        address = server.sockets[0].getsockname()
        self.port = address[1] if isinstance(address, tuple) else None
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def call(self, function):
        """Runs a function in the server's own thread."""
        self._loop.call_soon_threadsafe(function)

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

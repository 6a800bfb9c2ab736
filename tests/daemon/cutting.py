"""A TCP relay on loopback that cuts connections when it is told to."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class CuttingRelay:
    """Relays to an address in a thread of its own.

    Args:
        target: HOST:PORT.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._is_over = False
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def cut(self) -> int:
        """Reset all connections; returns how many there were."""
        with self._lock:
            sockets = list(self._peers)
            for end in sockets:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                self._drop(end)
        return len(sockets) // 2

    def close(self) -> None:
        self._is_over = True
        self._thread.join(5)
        self.cut()
        self._listener.close()

    def _drop(self, end: socket.socket) -> None:
        other = self._peers.pop(end, None)
        for one in (end, other):
            if one is not None:
                self._peers.pop(one, None)
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(one)
                one.close()

    def _accept(self) -> None:
        ours, _ = self._listener.accept()
        try:
            theirs = socket.create_connection(self._target, timeout=1)
        except OSError:
            ours.close()
            return
        for end, other in ((ours, theirs), (theirs, ours)):
            end.settimeout(5)
            self._peers[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _relay(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.1):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                        continue
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    other = self._peers.get(end)
                    if other is None:
                        continue
                    try:
                        data = end.recv(65536)
                        if data:
                            other.sendall(data)
                            continue
                    except OSError:
                        pass
                    self._drop(end)

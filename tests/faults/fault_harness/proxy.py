"""A TCP proxy between two parts: it delays, swallows, cuts, and cuts at a word."""

import contextlib
import socket
import threading
import time


class Proxy:
    """Listens on loopback and forwards to ``host``:``port``.

    ``hole``: hold everything back, keep connections open. ``refuse``: accept nobody, close who is there.
    ``delay_s``: hold every piece so long. ``cut_at``: close both sides when the client says this word;
    ``cut_after``: only once the word was forwarded, and before the answer passes: its outcome is unknown.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self.hole = self.refuse = False
        self.delay_s = 0.0
        self.cut_at: bytes | None = None
        self.cut_after = False
        self.cuts = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._forgotten: list[tuple[socket.socket, socket.socket]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for pair in list(self._pairs):
            self._close(pair)

    def forget(self) -> None:
        """Pass nothing more of the connections that are open now, and close none: as a firewall that lost its table."""
        self._forgotten += self._pairs

    def close(self) -> None:
        self.refuse = True
        self._server.close()
        self.cut()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            self._pairs.append(pair)
            for source, target, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(pair, source, target, asks), daemon=True).start()

    def _pump(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, target: socket.socket, asks: bool
    ) -> None:
        try:
            while piece := source.recv(65536):
                while self.hole:
                    time.sleep(0.05)
                if pair in self._forgotten:
                    continue
                time.sleep(self.delay_s)
                word = self.cut_at
                if asks and word and word in piece:
                    self.cut_at, self.cuts = None, self.cuts + 1
                    if self.cut_after:
                        pair[0].shutdown(socket.SHUT_RDWR)  # the answer has nowhere to go
                        target.sendall(piece)
                        time.sleep(0.3)
                    break
                target.sendall(piece)
        except OSError:
            pass
        self._close(pair)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(ValueError):
            self._pairs.remove(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

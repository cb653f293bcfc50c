"""A TCP relay between client and server: records what the client sends, can be cut or hold either direction back,
counts connections."""

import socket
import struct
import threading


class Relay:
    def __init__(self, target_port):
        self.target_port = target_port
        self.connections = 0
        self.recorded = []  # one bytearray per connection: what the client sent
        self._pairs = set()
        self._lock = threading.Lock()
        self._to_server, self._to_client = threading.Event(), threading.Event()
        self.pass_on()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                record = bytearray()
                self.recorded.append(record)
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), 10)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._pump, args=(client, server, record, self._to_server), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, None, self._to_client), daemon=True).start()

    @staticmethod
    def _pump(source, sink, record, may_pass):
        try:
            while data := source.recv(1 << 18):
                if record is not None and len(record) < 1 << 20:
                    record += data
                may_pass.wait()
                sink.sendall(data)
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def pass_on(self, to_server=True, to_client=True):
        """Which directions pass from now on; what the other one brings is kept and passed on later."""
        for event, passes in ((self._to_server, to_server), (self._to_client, to_client)):
            if passes:
                event.set()
            else:
                event.clear()

    def client_bytes(self):
        """Everything clients have sent so far (the first MiB of each connection)."""
        with self._lock:
            return b"".join(bytes(record) for record in self.recorded)

    def cut(self):
        """Resets every connection on both sides, as a middlebox would. New ones are still relayed."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for sock in pair:
                try:
                    # A pump inside recv() holds the socket open: SHUT_RD wakes it without sending anything, and
                    # with it gone the close sends the reset.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.shutdown(socket.SHUT_RD)
                    sock.close()
                except OSError:
                    pass

    def stop(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.pass_on()
        self.cut()

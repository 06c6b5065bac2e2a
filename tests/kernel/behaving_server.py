"""A server that does what the path of a request says: `python behaving_server.py NAME ADDRESS PORT`.

Each connection has its own thread. Every 200 names the server and repeats the request's target, and the
body's length if it had one, so that a client can tell that it got its own answer.

    /big/N    a body of N bytes             /chunked/N  the same in chunks       /eof/N     until the connection closes
    /sleep/MS answers after a while         /die        resets, no answer        /fin       closes, no answer
    /half/N   half of N bytes, then resets  /last       Connection: close        /early     answers before the body
    /http10   HTTP/1.0                      /continue   100, then 200            /split     head and body byte by byte
    /twice    two responses in one message  /stray/MS   another one later
    /stubborn does not read its body for a second
    /head     the request's head as the body
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
import time

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
NUMBER = re.compile(r"/(\d+)")


class Connection:
    """One client connection."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name, self.sock, self.buffer = name, sock, b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        try:
            while self.serve():
                pass
        except OSError:
            pass
        self.sock.close()

    def serve(self) -> bool:
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                return False
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if "/early" in target:
            return self.answer(target, b"early")
        if "/stubborn" in target:
            time.sleep(1)
        left = length - len(self.buffer)
        if left <= 0:
            self.buffer = self.buffer[length:]
        else:
            self.buffer = b""
            while left:
                data = self.sock.recv(min(left, 1 << 20))
                if not data:
                    return False
                left -= len(data)
        return self.behave(method, target, head, length)

    def behave(self, method: str, target: str, head: bytes, length: int) -> bool:
        found = NUMBER.search(target)
        n = int(found[1]) if found else 0
        text = f"{self.name} {target} body={length} ".encode()
        if "/sleep" in target:
            time.sleep(n / 1000)
        if "/die" in target:
            self.reset()
            return False
        if "/fin" in target:
            return False
        if "/big" in target:
            self.sock.sendall(b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\n\r\n" % max(n, len(text)))
            self.stream(text, n, b"%s")
            return True
        if "/chunked" in target:
            self.sock.sendall(b"HTTP/1.1 200 OK\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.stream(text, n, b"%x\r\n%s\r\n")
            self.sock.sendall(b"0\r\n\r\n")
            return True
        if "/eof" in target:
            self.sock.sendall(b"HTTP/1.1 200 OK\r\nServer: s\r\n\r\n" + text.ljust(n, b"."))
            return False
        if "/half" in target:
            self.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n + text.ljust(n // 2, b"."))
            time.sleep(0.05)
            self.reset()
            return False
        if "/last" in target:
            self.answer(target, text, method, extra=b"Connection: close\r\n")
            return False
        if "/http10" in target:
            self.sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            return False
        if "/continue" in target:
            self.sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        if "/split" in target:
            whole = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\n\r\n" % len(text) + text
            for at in range(len(whole)):
                self.sock.sendall(whole[at : at + 1])
            return True
        if "/head" in target:
            text = head
        if "/twice" in target:
            body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text
            self.sock.sendall(body + body.replace(b"s1", b"!!"))
            return True
        self.answer(target, text, method)
        if "/stray" in target:
            time.sleep(n / 1000)
            self.answer(target, b"unasked", method)
        return True

    def answer(self, target: str, body: bytes, method: str = "GET", extra: bytes = b"") -> bool:
        head = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\n" % len(body) + extra + b"\r\n"
        self.sock.sendall(head if method == "HEAD" else head + body)
        return True

    def stream(self, text: bytes, n: int, form: bytes) -> None:
        """`text`, then dots up to `n` bytes, in pieces of that form."""
        first = text.ljust(min(n, 10_000), b".")
        self.sock.sendall(form % (len(first), first) if b"%x" in form else form % first)
        left, piece = n - len(first), b"." * 50_000
        while left > 0:
            now = piece[:left]
            self.sock.sendall(form % (len(now), now) if b"%x" in form else now)
            left -= len(now)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def main(name: str, address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=4096) as server:
        print("ready", flush=True)
        while True:
            sock, _ = server.accept()
            threading.Thread(target=Connection(name, sock).run, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

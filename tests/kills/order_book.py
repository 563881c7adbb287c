"""The tool that the agent calls: a service that takes its time, and knows how often it was asked to do the same."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

TAKES_S: Final = 2.0
EXAMPLE = Path(__file__).parents[2] / "cluster" / "examples" / "receptionist.yaml"


class OrderBook:
    """What was written down, by idempotency key."""

    def __init__(self, url: str, requests: Counter[str]) -> None:
        self.url = url
        self.requests = requests

    def orders(self, call_id: str) -> int:
        """So many cakes a call has ordered, whatever was asked for twice."""
        return sum(key.startswith(call_id) for key in self.requests)

    def write_profiles(self, folder: Path) -> None:
        """The shipped profiles; the receptionist's with this tool."""
        for example in EXAMPLE.parent.glob("*.yaml"):
            (folder / example.name).write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
        profile: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
        tool = {
            "name": "write_down",
            "description": "Writes an order into the book.",
            "parameters": {"type": "object", "properties": {"cake": {"type": "string"}}},
            "url": self.url,
            "allow_private": True,
            "blocking": True,
            "idempotent": True,
        }
        profile["tools"].append(tool)
        (folder / EXAMPLE.name).write_text(yaml.safe_dump(profile), encoding="utf-8")


@contextmanager
def order_book() -> Iterator[OrderBook]:
    """Serve it on loopback."""
    requests: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Note the request, then take the time that such a service takes."""
            self.rfile.read(int(self.headers["Content-Length"]))
            requests[self.headers["Idempotency-Key"]] += 1
            threading.Event().wait(TAKES_S)
            body = json.dumps({"number": len(requests)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield OrderBook(f"http://127.0.0.1:{server.server_address[1]}/orders", requests)
    finally:
        server.shutdown()
        server.server_close()

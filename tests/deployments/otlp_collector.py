"""A collector of OpenTelemetry's traces: takes OTLP over HTTP, as protobuf, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """`endpoint` is for OTEL_EXPORTER_OTLP_ENDPOINT; `bodies` are what came over the wire."""

    endpoint: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self, trace_id: str) -> dict[str, list[tuple[str, Span]]]:
        """The spans of one trace by name, each with its service."""
        found: dict[str, list[tuple[str, Span]]] = {}
        for body in list(self.bodies):
            for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {attribute.key: attribute.value.string_value for attribute in of_process.resource.attributes}
                for scope in of_process.scope_spans:
                    for span in scope.spans:
                        if span.trace_id.hex() == trace_id:
                            found.setdefault(span.name, []).append((named["service.name"], span))
        return found


@contextmanager
def run_collector(port: int = 0) -> Iterator[Collector]:
    """A collector on a port of this machine, else on a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            good = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if good:
                collector.bodies.append(body)
            self.send_response(200 if good else 400)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()

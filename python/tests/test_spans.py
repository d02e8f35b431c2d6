"""Spans of OpenTelemetry cross the kernel and back: who awaits an answer is in the span that asked (T6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import southbridge

from .frontends import Frontend
from .test_client import heard

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, Tracer

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")


class Told:
    """A tracer, and the spans that have ended."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._ended = InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._ended))
        self.tracer: Tracer = provider.get_tracer("tests")

    def parents(self) -> dict[str, str | None]:
        """Of each span that has ended the parent, by name."""
        spans: tuple[ReadableSpan, ...] = self._ended.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans if span.context is not None}
        return {span.name: None if span.parent is None else names[span.parent.span_id] for span in spans}


@pytest.fixture
def told() -> Iterator[Told]:
    yield Told()


def current() -> int:
    return int(trace.get_current_span().get_span_context().span_id)


def test_a_span_is_still_there_when_the_answer_is(
    frontend: Frontend, peer: str, told: Told, tmp_path: Path
) -> None:
    """Two requests at the same time, each in a span of its own: what each begins after its answer is that one's child.
    The peer hears of the span by the header that the program's propagator writes.
    """
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()

    async def ask(name: str) -> None:
        with told.tracer.start_as_current_span(name):
            before = current()
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            response = await southbridge.get(f"{peer}/echo", headers=carrier)
            assert current() == before != 0
            assert heard(response)["traceparent"].split("-")[2] == f"{before:016x}"
            with told.tracer.start_as_current_span(f"{name}, after"):
                await southbridge.download(f"{peer}/size/1000", tmp_path / name)

    async def story() -> None:
        await frontend.together(lambda: ask("one"), lambda: ask("two"))
        assert current() == 0

    frontend.run(story)
    assert told.parents() == {"one": None, "two": None, "one, after": "one", "two, after": "two"}


def test_a_failure_is_recorded_in_the_span_that_asked(
    frontend: Frontend, closed_port: int, told: Told
) -> None:
    async def story() -> None:
        with told.tracer.start_as_current_span("asks") as span:
            try:
                await southbridge.get(f"http://127.0.0.1:{closed_port}/")
            except southbridge.ConnectFailedError as error:
                assert trace.get_current_span() is span
                with told.tracer.start_as_current_span("mends"):
                    span.record_exception(error)

    frontend.run(story)
    assert told.parents() == {"asks": None, "mends": "asks"}

"""Fixtures for pytest: a plugin that is there as soon as the package is installed, and does nothing until it is asked.

``southbridge_kernel`` is a `Kernel` that stands for the length of a test. The marker of the same name gives it its options::

    @pytest.mark.southbridge_kernel(seed=7, latency=0.05)
    def test_that_it_asks_again(southbridge_kernel): ...

When the test fails, the report has what replays it, and what happened last.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

# Not from `typing`, and nothing of the kit: a run that does not ask for it must not wait for it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from southbridge.testing import Kernel

# How much of a log a report shows.
LINES_SHOWN_MAX = 60


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line(
        "markers", "southbridge_kernel(**options): options of the kernel that `southbridge_kernel` gives"
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--southbridge-seed``."""
    group = parser.getgroup("southbridge")
    group.addoption(
        "--southbridge-seed",
        type=int,
        default=None,
        help="the seed of kernels whose marker names none (default 1)",
    )


@pytest.fixture
def southbridge_kernel(request: pytest.FixtureRequest) -> Generator[Kernel, None, None]:
    """A kernel on virtual time, in the place of the process's own."""
    from southbridge.testing import Kernel

    marker = request.node.get_closest_marker("southbridge_kernel")
    options = dict(marker.kwargs) if marker is not None else {}
    seed = request.config.getoption("--southbridge-seed")
    if seed is not None:
        options.setdefault("seed", seed)
    with Kernel(**options) as kernel:
        request.node.southbridge_kernel = kernel
        yield kernel


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Puts what replays a failure into its report."""
    report = yield
    kernel: Kernel | None = getattr(item, "southbridge_kernel", None)
    if kernel is not None and report.failed:
        options = ", ".join(f"{name}={value!r}" for name, value in kernel.options.items())
        lines = kernel.log
        left_out = len(lines) - LINES_SHOWN_MAX
        shown = [*([f"({left_out} lines before)"] if left_out > 0 else []), *lines[-LINES_SHOWN_MAX:]]
        text = "\n".join([f"Kernel({options})", *shown])
        report.sections.append(("southbridge kernel", text))
    return report

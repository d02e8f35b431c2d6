"""What a program counts, and who gets to know it (K10): each program of `counts.py` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import southbridge

PROGRAMS = Path(__file__).with_name("counts.py")


def start(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS), program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def run(program: str, *arguments: str, **environment: str) -> str:
    with start(program, *arguments, **environment) as process:
        told, _nothing = process.communicate(timeout=120)
    assert process.returncode == 0
    return told.strip()


def figures(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def stats(path: str | Path) -> str | None:
    """What ``southbridge stats FILE`` prints, if it has been built."""
    program = Path(__file__).parents[2] / "target/debug/southbridge"
    if not program.exists():
        return None
    done = subprocess.run(
        [str(program), "stats", str(path), "--prometheus"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "statistics"
    place.mkdir(mode=0o700)
    return place


def test_figures_of_a_killed_process_are_read_by_another(directory: Path, peer: str) -> None:
    with start("until_killed", str(directory), peer) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert path.parent == directory
    told = stats(path)
    if told is None:
        pytest.skip("the southbridge command has not been built")
    assert 'orders_total{shop="north"} 42' in told
    assert "baskets 3" in told
    assert "work_seconds_sum 0.25" in told
    # The kernel's own are in the same region: in all, and of the service that was asked.
    assert f'southbridge_service_requests_total{{service="{peer}"}} 1' in told
    assert 'southbridge_responses_total{status="2xx"} 1' in told
    at = f'endpoint="{peer.removeprefix("http://")}",service="{peer}"'
    assert f'southbridge_endpoint_responses_total{{{at},status="2xx"}} 1' in told


def test_figures_get_out_while_python_holds_its_lock() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        host, port = server.getsockname()
        with start("busy", f"{host}:{port}", "2") as process:
            packets = [server.recv(65536).decode()]
            server.settimeout(1)
            try:
                while True:
                    packets.append(server.recv(65536).decode())
            except TimeoutError:
                pass
        assert process.returncode == 0
    assert any("busy_total:7|c" in packet for packet in packets)
    # Ten a second for two seconds; half of them will do on a machine that is busy.
    assert sum("southbridge_requests_under_way" in packet for packet in packets) >= 10


def test_a_loop_that_is_late_does_not_make_its_services_slow(peer: str) -> None:
    """The answer is there at once, and the loop looks a second later: the latency is that of the service (K11).

    Of one that cannot be reached it is told how far its requests came.
    """
    told = dict(line.rsplit(" ", 1) for line in run("late", peer).splitlines() if line[0] != "#")
    latency = "southbridge_service_latency_seconds"
    assert told[f'{latency}_count{{service="{peer}"}}'] == "1"
    assert float(told[f'{latency}_sum{{service="{peer}"}}']) < 0.5
    gone = "http://127.0.0.1:1"
    assert told[f'southbridge_service_requests_total{{service="{gone}"}}'] == "2"
    assert told[f'southbridge_service_failures_total{{service="{gone}",step="connect"}}'] == "2"
    assert told[f'southbridge_service_failures_total{{service="{gone}",step="response"}}'] == "0"
    at = f'endpoint="127.0.0.1:1",service="{gone}"'
    assert int(told[f'southbridge_endpoint_failures_total{{{at},step="connect"}}']) >= 2, (
        "every attempt counts"
    )
    at = f'endpoint="{peer.removeprefix("http://")}",service="{peer}"'
    assert told[f"southbridge_endpoint_latency_seconds_count{{{at}}}"] == "1"
    assert told[f'southbridge_service_retries_total{{service="{peer}"}}'] == "0"


def test_a_forked_child_counts_for_itself(directory: Path) -> None:
    with start("fork", str(directory)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        (parent, of_parent), (child, of_child), (child_pid,) = lines
        assert (parent, child) == ("5", "100")
        assert of_parent != of_child
        assert Path(of_child).name.startswith(f"{child_pid}-")
        assert b"child_total" in figures(of_child)
        assert b"child_total" not in figures(of_parent)
        process.communicate(timeout=60)
    assert process.returncode == 0
    # Who ends in good order leaves nothing, and who was killed leaves what it knew.
    assert [str(path) for path in directory.iterdir()] == [of_child]


def test_threads_lose_nothing() -> None:
    assert run("threads", "20000") == "160000"


def test_a_label_without_end_meets_a_bound() -> None:
    made, message = run("fill", str(256 * 1024)).split(" ", 1)
    assert 500 < int(made) < 10_000
    assert "no room for visits_total" in message
    assert "use fewer values of labels" in message


def test_the_environment_can_say_it(tmp_path: Path, peer: str) -> None:
    exposed = tmp_path / "figures.prom"
    where = run(
        "environment",
        peer,
        SOUTHBRIDGE_STATISTICS=str(tmp_path / "own"),
        SOUTHBRIDGE_STATISTICS_FILE=str(exposed),
        SOUTHBRIDGE_STATISTICS_PROMETHEUS=f"unix:{tmp_path}/prometheus-{{pid}}",
    )
    assert Path(where).parent == tmp_path / "own"
    assert "southbridge_dials_total" in exposed.read_text()
    assert list(tmp_path.glob("prometheus-*"))
    assert run("environment", peer, SOUTHBRIDGE_STATISTICS="off") == "None"


def test_prometheus_asks_while_nothing_else_happens() -> None:
    counter = southbridge.counter("asked_for_total", "What a scraper sees.", labels={"by": "test"})
    counter.add(3)
    where = southbridge.statistics(prometheus="127.0.0.1:0")
    page = southbridge.get(f"http://{where.prometheus}/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# HELP asked_for_total What a scraper sees." in page.text
    assert 'asked_for_total{by="test"} 3' in page.text


def test_a_figure_is_the_same_however_often_it_is_asked_for() -> None:
    one = southbridge.counter("same_total", labels={"a": "1", "b": "2"})
    other = southbridge.counter("same_total", labels={"b": "2", "a": "1"})
    one.add()
    other.add(2)
    assert one.value == other.value == 3
    assert southbridge.counter("same_total", labels={"a": "2"}).value == 0


def test_units_follow_the_name_or_what_is_said() -> None:
    seconds = southbridge.counter("spent_seconds_total")
    seconds.add(0.25)
    seconds.add(1)
    assert seconds.value == 1.25
    load = southbridge.gauge("load", unit="ratio")
    load.set(0.5)
    load.add(-0.75)
    assert load.value == -0.25
    size = southbridge.histogram("size_bytes")
    for value in (1, 1000, 1e6):
        size.observe(value)
    assert (size.count, size.sum) == (3, 1_001_001)
    baskets = southbridge.gauge("open_baskets")
    baskets.add()
    baskets.add(-2)
    assert baskets.value == -1


def test_what_cannot_be_counted_is_refused_by_name() -> None:
    orders = southbridge.counter("refused_total")
    for wrong, why in [
        (-1, "only grows"),
        (0.5, 'unit="ratio"'),
        (float("nan"), "no number"),
        (2**63, "most"),
    ]:
        with pytest.raises(ValueError, match=f"refused_total cannot take .*{why}"):
            orders.add(wrong)
    with pytest.raises(ValueError, match="not negative"):
        southbridge.histogram("refused_seconds").observe(-1.0)
    with pytest.raises(TypeError):
        orders.add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="is a counter in count already"):
        southbridge.gauge("refused_total")
    with pytest.raises(ValueError, match="no digit first"):
        southbridge.counter("9lives")
    with pytest.raises(ValueError, match="Prometheus's own"):
        southbridge.counter("labelled_total", labels={"__name__": "x"})
    assert orders.value == 0


def test_settings_that_make_no_sense_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(southbridge.InvalidSettingError, match=r'statsd: "localhost" .* write'):
        southbridge.statistics(statsd="localhost")
    with pytest.raises(southbridge.InvalidSettingError, match=r"from 0.1 to 3600 seconds"):
        southbridge.statistics(file=tmp_path / "x.prom", file_interval=0)
    with pytest.raises(southbridge.InvalidSettingError, match=r"prometheus: .*unix:PATH"):
        southbridge.statistics(prometheus="9102")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(southbridge.InvalidSettingError, match=f"127.0.0.1:{port}"):
            southbridge.statistics(prometheus=f"127.0.0.1:{port}")
        # A wrong word is not kept: what was published before may be published again.
    southbridge.statistics(prometheus="127.0.0.1:0")

"""What a client is told, and what it tells: once, in a thread, for the kernel does it alike for all frontends."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import southbridge

if TYPE_CHECKING:
    from pathlib import Path


def heard(response: southbridge.Response) -> dict[str, str]:
    """The header fields that the peer heard."""
    told: list[tuple[str, str]] = response.json()["headers"]
    return {name.lower(): value for name, value in told}


def test_redirects_are_followed_and_remembered(peer: str) -> None:
    client = southbridge.Client(base_url=peer)
    response = client.get("/redirect/2")
    assert response.url == f"{peer}/echo"
    assert response.history == [(302, f"{peer}/redirect/{left}") for left in (2, 1, 0)]
    assert heard(response)["cookie"] == "seen=0"


def test_redirects_are_delivered_or_refused_on_demand(peer: str) -> None:
    assert southbridge.get(f"{peer}/redirect/2", redirects_max=0).status == 302
    with pytest.raises(southbridge.TooManyRedirectsError):
        southbridge.get(f"{peer}/redirect/3", redirects_max=2)


def test_a_client_gives_its_settings_to_every_request(peer: str) -> None:
    client = southbridge.Client(
        base_url=peer, headers={"X-Of": "client"}, params={"a": 1}, auth=("me", "secret")
    )
    response = client.get("/echo", params={"b": 2}, headers={"X-Own": "too"}, cookies={"c": "3"})
    assert response.json()["query"] == "a=1&b=2"
    fields = heard(response)
    assert (fields["x-of"], fields["x-own"], fields["cookie"]) == ("client", "too", "c=3")
    assert fields["authorization"] == "Basic bWU6c2VjcmV0"


def test_a_client_dials_what_it_may(peer: str) -> None:
    """With a word on addresses, only public ones and those that are allowed; what is denied is denied in any case."""
    denied = southbridge.Client(deny=["10.0.0.0/8"])
    denied_again = southbridge.Client(allow=["127.0.0.0/8"], deny=["127.0.0.1"])
    for client in (denied, denied_again):
        with pytest.raises(southbridge.AddressDeniedError):
            client.get(f"{peer}/echo")
    assert southbridge.Client(allow=["127.0.0.0/8"]).get(f"{peer}/echo").ok
    with pytest.raises(southbridge.InvalidSettingError, match="neither a network"):
        southbridge.Client(allow=["everywhere"])


def test_a_form_with_files_is_multipart(peer: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("from the disk")
    files: dict[str, Any] = {"one": path, "two": ("two.bin", b"from memory", "application/x-two")}
    response = southbridge.post(f"{peer}/echo", data={"field": "value"}, files=files)
    body = response.json()["body"]
    assert heard(response)["content-type"].startswith("multipart/form-data; boundary=")
    assert 'name="field"\r\n\r\nvalue\r\n' in body
    assert 'filename="notes.txt"' in body
    assert "from the disk" in body
    assert "Content-Type: application/x-two\r\n\r\nfrom memory" in body


@pytest.mark.parametrize("content", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), "bytes"])
def test_a_body_may_be_any_buffer(peer: str, content: bytes | bytearray | memoryview | str) -> None:
    assert southbridge.put(f"{peer}/echo", content=content).json()["body"] == "bytes"


def test_a_form_is_a_form(peer: str) -> None:
    response = southbridge.post(f"{peer}/echo", data={"a": "1 2", "b": ["x", "y"]})
    assert response.json()["body"] == "a=1+2&b=x&b=y"
    assert heard(response)["content-type"] == "application/x-www-form-urlencoded"


def test_there_is_one_body(peer: str) -> None:
    with pytest.raises(TypeError, match="second body"):
        southbridge.post(f"{peer}/echo", content=b"x", json={})


def test_what_is_no_argument_is_named(peer: str) -> None:
    with pytest.raises(TypeError, match='"verify" is no argument'):
        southbridge.get(f"{peer}/echo", verify=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_row_10_line_ends_in_a_header_are_refused_by_name(peer: str) -> None:
    with pytest.raises(ValueError, match="X-Bad"):
        southbridge.get(f"{peer}/echo", headers={"X-Bad": "one\r\nX-Worse: two"})


def test_row_07_what_is_encoded_is_decoded_within_bounds(peer: str) -> None:
    assert southbridge.get(f"{peer}/zipped/1000").text == "z" * 1000
    with pytest.raises(southbridge.DecodeFailedError):
        southbridge.get(f"{peer}/zipped/100000000")


def test_a_body_beyond_the_bound_is_refused(peer: str) -> None:
    with pytest.raises(southbridge.TooLargeError):
        southbridge.get(f"{peer}/size/1001", body_bytes_max=1000)


def test_header_fields_have_no_case_and_may_come_twice(peer: str) -> None:
    headers = southbridge.get(f"{peer}/fields").headers
    assert headers["x-twice"] == "one, two"
    assert headers.get_list("X-TWICE") == ["one", "two"]
    assert headers["X-Latin"] == "café"
    assert headers.get("absent") is None
    assert headers.get("absent", "there") == "there"
    assert "content-length" in headers
    assert len(headers) == len(list(headers)) == len(dict(headers))
    assert (b"x-twice", b"two") in headers.raw
    with pytest.raises(KeyError):
        headers["absent"]


def test_text_is_read_in_its_charset(peer: str) -> None:
    assert southbridge.get(f"{peer}/latin").text == "café"


def test_what_is_not_json_is_a_value_error(peer: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        southbridge.get(f"{peer}/malformed").json()


def test_numbers_in_json_are_those_of_python(peer: str) -> None:
    sent = {"big": 2**80, "float": 0.1, "none": None, "list": [1, "é", True]}
    assert (
        southbridge.post(f"{peer}/echo", json=sent)
        .json()["body"]
        .startswith('{"big":1208925819614629174706176')
    )


def test_an_error_survives_pickling(closed_port: int) -> None:
    with pytest.raises(southbridge.ConnectFailedError) as caught:
        southbridge.get(f"http://127.0.0.1:{closed_port}/")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.step) == (type(caught.value), str(caught.value), "connect")


def test_a_timeout_says_for_what(peer: str) -> None:
    with pytest.raises(southbridge.TimedOutError, match="Read"):
        southbridge.get(f"{peer}/never", timeout=southbridge.Timeout(read=0.1))
    with pytest.raises(ValueError, match="more than 0"):
        southbridge.get(f"{peer}/never", timeout=0)


@pytest.mark.parametrize("url", ["", "no/scheme", "http://", "gopher://a.test/"])
def test_what_is_no_url_is_a_value_error(url: str) -> None:
    with pytest.raises(southbridge.InvalidRequestError):
        southbridge.get(url)


def test_five_thousand_at_once_are_asked_of_one_service(peer: str) -> None:
    async def status() -> int:
        return (await southbridge.get(f"{peer}/echo")).status

    async def main() -> None:
        assert await asyncio.gather(*(status() for _ in range(5000))) == [200] * 5000

    asyncio.run(main())

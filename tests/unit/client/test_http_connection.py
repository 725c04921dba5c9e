# SPDX-License-Identifier: Apache-2.0
"""How both HTTP clients reach a gateway: connections, keys, addresses, TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest
from fake_http_server import refusal, three_chunks

from duologue.client import AccessError, RequestError, ServerUnavailableError


def test_complete_stream_leaves_its_connection_to_the_next(serve_http, connect_http):
    server = serve_http(three_chunks)
    client = connect_http(server.url)
    for _ in range(3):
        assert len(client.chunks("a")) == 3
    assert server.connections == 1


def test_key_goes_with_every_request_and_a_wrong_one_has_its_error(serve_http, connect_http):
    def plot(body, server):
        if server.headers[-1].get("Authorization") != "Bearer s3cret":
            yield refusal(401, "invalid_api_key", "the API key is unknown")
        yield from three_chunks(body, server)

    server = serve_http(plot)
    assert len(connect_http(server.url, api_key="s3cret").chunks("a")) == 3
    for key in (None, "other"):
        with pytest.raises(AccessError, match="unknown"):
            connect_http(server.url, api_key=key).chunks("a")


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "schlüssel"])
def test_key_that_no_header_can_carry_is_refused_and_not_shown(connect_http, key):
    with pytest.raises(RequestError) as caught:
        connect_http("http://localhost:1", api_key=key)
    assert key not in str(caught.value)


def test_ready_is_what_the_server_says(serve_http, connect_http):
    assert connect_http(serve_http(three_chunks).url).is_ready()
    assert not connect_http(serve_http(three_chunks, ready=503).url).is_ready()


def test_sample_rate_is_that_of_one_probe(serve_http, connect_http):
    server = serve_http(three_chunks)
    client = connect_http(server.url)
    assert [client.sample_rate_hz(), client.sample_rate_hz()] == [24_000, 24_000]
    assert [body["max_new_tokens"] for _, body in server.bodies] == [1]


def test_gateway_may_live_below_a_path(serve_http, connect_http):
    server = serve_http(three_chunks)
    connect_http(server.url + "/speech/").chunks("a")
    assert server.bodies[0][0] == "/speech/v1/audio/dialogue"


@pytest.mark.parametrize(
    "url",
    ["localhost:9000", "grpc://h:1", "http://", "http://h:99999", "http://h:x", "http://h?a=1"],
)
def test_address_that_is_not_of_http_is_refused(connect_http, url):
    with pytest.raises(RequestError, match="allowed: http://HOST:PORT"):
        connect_http(url)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate: apt install openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_https_is_spoken_and_strangers_are_not_trusted(serve_http, connect_http, certificate):
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(*certificate)
    server = serve_http(three_chunks, tls=own)
    trusting = ssl.create_default_context(cafile=certificate[0])
    assert len(connect_http(server.url, tls=trusting).chunks("a")) == 3
    with pytest.raises(ServerUnavailableError, match="certificate"):
        connect_http(server.url).chunks("a")

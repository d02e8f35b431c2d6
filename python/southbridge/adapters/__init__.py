"""The kernel for programs that have a client already: what that client sends through.

One module for each client, imported by nobody else: ``aiohttp``, ``httpx``, ``requests`` and ``twisted``. Each needs its client,
which the extra of the same name installs. The client keeps what is its own (redirects, cookies, decoding, retries),
and the kernel sees to names, connections, TLS, deadlines and bytes.
"""

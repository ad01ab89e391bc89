"""The offline seal: no process of the server can reach a network.

`apply` puts it on, `policy` says what is denied and why, `proof` tries to get
out. The order at start: settings, listening sockets, `apply.seal_server`, then
everything else is imported and run.
"""

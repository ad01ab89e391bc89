"""Ways out of a sealed process, each aimed at a listener of the proof's own.

They are run by `server.seal.prover` alone, in a process of their own each. None
is ever aimed at another address than 127.0.0.1, ::1, a path in a temporary folder
or a name of the proof's own; some only ask for a socket and aim at nothing.
"""

"""The self-test: an installation proves itself on the machine it is to run on."""

"""Files from the network: what is fetched from where, verified transfers, archives unpacked whole or not at all."""

"""Two RSA keys for all tests of a process, since making one takes a quarter of a second."""

from cryptography.hazmat.primitives.asymmetric import rsa

KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)

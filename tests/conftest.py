"""What holds for every test."""

import os

from hypothesis import settings

# No deadline: tests do not time things, and the first example of a law may have to make an RSA key.
settings.register_profile("pilet", deadline=None, max_examples=1000 if os.environ.get("PILET_SOAK") == "1" else 100)
settings.load_profile("pilet")

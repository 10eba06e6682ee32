"""Links to a checkpoint's archive that need no key: they are signed and expire."""

import hashlib
import hmac
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from baker.storage.home import SIGNING_KEY
from baker.types import Checkpoint
from baker.versions.archive import archive_name
from gateway.access.secrets import stored_secret
from gateway.errors import ForbiddenError

PATH = "/v1/files/weights"


class Links:
    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        """The secret is in `home`/signing.key, written when it is first needed. Removing the file invalidates all links
        after a restart."""
        self._file = home / SIGNING_KEY
        self._clock = clock

    def make(self, checkpoint: Checkpoint, seconds: int, *, with_prompts: bool = False) -> str:
        """Path and query of a link that is valid for `seconds`. The path ends in a file name for clients.

        Args: with_prompts: whether the link leads to the archive whose card quotes the prompts.
        """
        expires = int(self._clock()) + seconds
        place = (checkpoint.user, checkpoint.repo, checkpoint.bake, str(checkpoint.step))
        prompts = {"prompts": "true"} if with_prompts else {}
        query = urlencode({**prompts, "expires": expires, "sig": self._signature(*place, expires, with_prompts)})
        return f"{PATH}/{'/'.join(place)}/{archive_name(checkpoint.bake, checkpoint.step)}.tar.gz?{query}"

    def check(
        self, user: str, repo: str, bake: str, step: int, expires: int, signature: str, *, with_prompts: bool = False
    ) -> None:
        """Raises: ForbiddenError if the signature does not match or the link has expired."""
        expected = self._signature(user, repo, bake, str(step), expires, with_prompts)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise ForbiddenError("The link's signature does not match: ask for a new link, and use it unchanged")
        if expires < self._clock():
            raise ForbiddenError("The link has expired: ask for a new one")

    def _signature(self, user: str, repo: str, bake: str, step: str, expires: int, with_prompts: bool) -> str:
        # Names contain no slash, so no two links have the same text.
        text = "/".join((PATH, user, repo, bake, step, str(expires), *(["prompts"] if with_prompts else [])))
        return hmac.new(stored_secret(self._file).encode(), text.encode(), hashlib.sha256).hexdigest()

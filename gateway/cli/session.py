"""What all verbs share: the chosen server, its client, and the current repo."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.cli import names
from gateway.cli.client import Client, quoted
from gateway.cli.failures import CliError, Exit
from gateway.cli.output import bullet_list
from gateway.cli.servers import Server, Settings

if TYPE_CHECKING:
    import httpx


class Version(NamedTuple):
    """A version in a repo, as a verb's argument named it."""

    repo: str
    rev: str

    @property
    def model(self) -> str:
        return f"{self.repo}/{self.rev}"


class Session:
    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Args: transport: replaces the network in tests."""
        self.environment = os.environ if environment is None else environment
        self.settings = Settings(self.environment, folder or Path.cwd())
        self.url: str | None = None
        """From the option `--base-url`."""
        self.user: str | None = None
        """Whom the master key acts for: from the option `--user`, or from a name that begins with a user."""
        self.transport = transport

    @cached_property
    def server(self) -> Server:
        return self.settings.server(self.url)

    @cached_property
    def client(self) -> Client:
        return self.client_of(self.server)

    def client_of(self, server: Server) -> Client:
        return Client(server, user=self.user, transport=self.transport)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.__dict__.pop("client").close()

    @cached_property
    def repos(self) -> list[str]:
        return list(self.client.get("/v1/repo")["repos"])

    def repo(self, given: str | None = None) -> str:
        """The repo that is given, or the current one, or the only one. Raises: CliError if that leaves a choice."""
        if given:
            return given
        if current := self.settings.repo(self.server.url):
            return current
        if not self.repos:
            raise CliError("there is no repo yet: run `bread init REPO`, or `bread bake`", Exit.NOT_FOUND)
        if len(self.repos) > 1:
            raise CliError(
                f"several repos ({bullet_list(self.repos)}): write repo/ref, or choose one with `bread switch REPO`",
                Exit.USAGE,
            )
        return self.repos[0]

    def version(self, text: str, repo: str | None = None) -> Version:
        """The version that an argument names. Args: repo: from the option `--repo`, for bare refs."""
        if repo is not None and "/" not in text:
            return Version(repo, text)
        name = names.parse(text, self.repos if "/" in text else ())
        self._act_for(name.user)
        return Version(self.repo(name.repo or repo), name.rev)

    def versions(self, texts: Sequence[str], repo: str | None = None) -> tuple[str, list[str]]:
        """The repo and the revisions that several arguments name. A bare ref is in the repo that another one names.

        Raises: CliError if they are in different repos.
        """
        named = [self.version(text, repo) for text in texts if "/" in text]
        if repo is None and named:
            repo = named[0].repo
        found = [self.version(text, repo) for text in texts]
        if len(different := {each.repo for each in found}) > 1:
            raise CliError(f"the versions are in different repos, {bullet_list(sorted(different))}", Exit.USAGE)
        return found[0].repo, [each.rev for each in found]

    def repo_or_version(self, text: str | None, repo: str | None = None) -> tuple[str, str | None]:
        """A repo, and the revision if the argument names one. A bare name is a repo if there is one of that name."""
        if text is None or text in self.repos:
            return self.repo(text or repo), None
        if text.endswith("/"):
            return text.rstrip("/"), None
        version = self.version(text, repo)
        return version.repo, version.rev

    def model(self, text: str, repo: str | None = None) -> str:
        """The model's name that an argument means: a bare ref is in the current repo, `base` is the base model."""
        if text == "base":
            return str(self.client.get("/v1/models")["data"][0]["root"])
        return text if "/" in text else f"{self.repo(repo)}/{text}"

    def bake(self, text: str, repo: str | None = None) -> Version:
        """The bake that an argument names: `repo/bake`, or a bake of the current repo; a step is left out."""
        version = self.version(text, repo)
        return Version(version.repo, names.without_suffixes(version.rev).partition("/")[0])

    def _act_for(self, user: str | None) -> None:
        """The master key reaches other users' repos by naming the user."""
        if user is not None and user != self.user:
            if self.user is not None:
                raise CliError(f"the arguments name two users, {self.user} and {user}: use one", Exit.USAGE)
            self.close()
            self.user = user
            self.__dict__.pop("repos", None)


def path_of(repo: str, *parts: str) -> str:
    """`/v1/repo/<repo>/<part>/...` with each part quoted."""
    return "/".join(["/v1/repo", quoted(repo), *map(quoted, parts)])

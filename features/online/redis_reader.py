"""Online store readers of Redis: one HMGET for each entity, all in one round trip, by a thread or an event loop.

Hashes and their fields are named as Feast's own class names them (feast: docs/specs/online_store_format.md).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from feast import FeatureView, RepoConfig

from kfp_lifecycle.features.online.location import CONNECT_SECONDS
from kfp_lifecycle.features.online.reading import ENTITIES_AT_ONCE, EntityKeys, Stored, Wanted, decoders_of

if TYPE_CHECKING:
    import ssl

Answer = list[bytes | None]
"""The values of an entity's fields."""


class RedisReader:
    """A server, asked by a thread that waits for it."""

    def __init__(
        self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys
    ) -> None:
        """Connect."""
        from redis import Redis

        # A connection of its own: taking one from the client's pool for each question costs as much as the question.
        self._connection: Any = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS
        ).connection_pool.get_connection()
        self._hashes = _Hashes(config, views, wanted, keys)

    def read(self, entities: Sequence[Any]) -> list[Stored]:
        """See `Reader`."""
        questions = [self._hashes.question(entity) for entity in entities]
        found: list[Stored] = []
        for start in range(0, len(questions), ENTITIES_AT_ONCE):
            found += map(self._hashes.stored, self._answers(questions[start : start + ENTITIES_AT_ONCE]))
        return found

    def _answers(self, questions: Sequence[bytes]) -> list[Answer]:
        from redis.exceptions import ConnectionError as Disconnected

        try:
            return self._ask(questions)
        except Disconnected:
            # Servers close connections that are idle; a second refusal is a failure.
            return self._ask(questions)

    def _ask(self, questions: Sequence[bytes]) -> list[Answer]:
        connection = self._connection
        try:
            connection.send_packed_command(questions)
            return [connection.read_response() for _ in questions]
        except BaseException:
            # Answers that were not read would be taken for those to the next question.
            connection.disconnect()
            raise


class AsyncRedisReader:
    """A server, asked by an event loop's own socket: no question costs a change of threads, or waits for another.

    All questions share one connection, and those of one turn of the loop one round trip.
    """

    def __init__(
        self, url: str, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys
    ) -> None:
        """Note where to connect when it is first asked."""
        from redis.connection import parse_url

        self._settings: Mapping[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        self._hashes = _Hashes(config, views, wanted, keys)
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None

    async def read_later(self, entities: Sequence[Any], seconds: float) -> list[Stored]:
        """See `AsyncReader`."""
        from redis.exceptions import ConnectionError as Disconnected

        deadline = asyncio.get_running_loop().time() + seconds
        questions = b"".join([self._hashes.question(entity) for entity in entities])
        try:
            try:
                answers = await self._ask(questions, len(entities), deadline)
            except Disconnected:
                # As above.
                answers = await self._ask(questions, len(entities), deadline)
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        return [self._hashes.stored(answer) for answer in answers]

    async def _ask(self, questions: bytes, number: int, deadline: float) -> list[Answer]:
        connection = self._connection
        if connection is None or not connection.is_open:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            # Who gives up waiting does not end it for the others.
            left = deadline - asyncio.get_running_loop().time()
            connection = await asyncio.wait_for(asyncio.shield(self._connecting), left)
        return await connection.ask(questions, number, deadline)

    async def _connect(self) -> _Connection:
        settings, loop = self._settings, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                host, port = settings["host"], settings["port"]
                _, connection = await loop.create_connection(_Connection, host, port, ssl=_tls(settings))
            if introduction := _introduction(settings):
                try:
                    packed = b"".join(_packed(command) for command in introduction)
                    await connection.ask(packed, len(introduction), loop.time() + CONNECT_SECONDS)
                except BaseException:
                    connection.abort()
                    raise
            self._connection = connection
            return connection
        finally:
            self._connecting = None

    def close(self) -> None:
        """End the connection, if its event loop still runs."""
        if self._connection is not None:
            self._connection.abort()


class _Connection(asyncio.Protocol):
    """One connection: questions go out as they come, and are answered in their order."""

    def __init__(self) -> None:
        import hiredis
        from redis.exceptions import InvalidResponse, ResponseError

        self.is_open = False
        self._parser = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._asked: deque[_Asked] = deque()
        self._answers: list[Any] = []
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        # One timer for all questions: one of its own would cost each as much as the parsing of its answer.
        self._watch: asyncio.TimerHandle | None = None
        self._watched = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def ask(self, commands: bytes, number: int, deadline: float) -> asyncio.Future[list[Any]]:
        """Send so many commands.

        Returns:
            Their answers. RedisError where the server refuses one, or the connection ends before; TimeoutError where
            they have not come by the deadline.
        """
        found: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self.is_open:
            found.set_exception(_disconnected())
            return found
        self._asked.append(_Asked(found, number, self._loop.time(), deadline))
        self._transport.write(commands)
        if deadline < self._watched:
            self._watch_until(deadline)
        return found

    def data_received(self, data: bytes) -> None:
        """Answers, or parts of them."""
        from redis.exceptions import RedisError

        self._heard = self._loop.time()
        try:
            self._parser.feed(data)
            while (answer := self._parser.gets()) is not False:
                self._answers.append(answer)
                if len(self._answers) == self._asked[0].number:
                    self._asked.popleft().end(self._answers)
                    self._answers = []
        except (RedisError, IndexError):
            # Nonsense, or an answer to nothing: what follows would be taken for answers to other questions.
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended; whoever waits may ask on another."""
        self.is_open = False
        while self._asked:
            self._asked.popleft().fail(_disconnected(exc))
        self._watch_until(math.inf)

    def abort(self) -> None:
        """End it."""
        self.is_open = False
        if not self._loop.is_closed():
            self._transport.abort()

    def _give_up(self) -> None:
        """Tell those whose deadline is over, and leave a connection on which nothing came in all the time: its server
        may be gone without a word."""
        now = self._loop.time()
        late = [one for one in self._asked if one.deadline <= now]
        for one in late:
            one.fail(TimeoutError("no answer in time"))
        if late and self._heard < late[0].at:
            self.abort()
        self._watch_until(min((one.deadline for one in self._asked if one.deadline > now), default=math.inf))

    def _watch_until(self, deadline: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watched = deadline
        self._watch = None if deadline == math.inf else self._loop.call_at(deadline, self._give_up)


@dataclass(slots=True)
class _Asked:
    """Commands whose answers are waited for."""

    found: asyncio.Future[list[Any]]
    number: int
    at: float
    deadline: float

    def end(self, answers: list[Any]) -> None:
        """They have come."""
        refused = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if refused is not None:
            self.fail(refused)
        elif not self.found.done():
            self.found.set_result(answers)

    def fail(self, error: Exception) -> None:
        """They will not."""
        if not self.found.done():
            self.found.set_exception(error)


class _Hashes:
    """How Feast keeps an entity: one hash, named by the entity's key and the project."""

    def __init__(self, config: RepoConfig, views: Sequence[FeatureView], wanted: Wanted, keys: EntityKeys) -> None:
        import mmh3

        self._keys = keys
        self._suffix = config.project.encode()
        self._decoders = [(view.name, list(decoders_of(view, wanted[view.name]).items())) for view in views]
        fields = [
            mmh3.hash(f"{view}:{name}", signed=False).to_bytes(4, "little")
            for view, decoders in self._decoders
            for name, _ in decoders
        ]
        self._begin = b"*%d\r\n%b" % (2 + len(fields), _argument(b"HMGET"))
        self._end = b"".join(map(_argument, fields))

    def question(self, entity: Any) -> bytes:
        """The command that asks for what is wanted of an entity."""
        return self._begin + _argument(self._keys.serialized(entity) + self._suffix) + self._end

    def stored(self, answer: Iterable[bytes | None]) -> Stored:
        """What has come of it."""
        values = iter(answer)
        return {
            view: {
                # The names come first: when they end, no value has been taken for them.
                name: None if value is None else decode(value)
                for (name, decode), value in zip(decoders, values, strict=False)
            }
            for view, decoders in self._decoders
        }


def _introduction(settings: Mapping[str, Any]) -> list[list[bytes]]:
    """What a connection begins with: who asks, and of which database."""
    commands = []
    if password := settings.get("password"):
        user = [settings["username"].encode()] if settings.get("username") else []
        commands.append([b"AUTH", *user, password.encode()])
    if database := settings.get("db"):
        commands.append([b"SELECT", b"%d" % database])
    return commands


def _packed(command: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(command), b"".join(map(_argument, command)))


def _argument(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _tls(settings: Mapping[str, Any]) -> ssl.SSLContext | None:
    # Of a URL that asks for TLS alone.
    if "connection_class" not in settings:
        return None
    from redis.asyncio.connection import SSLConnection

    context: ssl.SSLContext = SSLConnection(
        **{name: value for name, value in settings.items() if name.startswith("ssl_")}
    ).ssl_context.get()
    return context


def _disconnected(cause: Exception | None = None) -> Exception:
    from redis.exceptions import ConnectionError as Disconnected

    return Disconnected(f"the connection was closed{'' if cause is None else f': {cause}'}")

"""The made-up world that transcripts play in: a project with its files, services, people and numbers, from one seed.

Everything that a summary may lose is handed out by a method that records it as planted, so what a turn holds is known
without looking for it. Written before any extractor was tuned, and without looking at one.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

PlantedKind = Literal[
    "path", "url", "id", "command", "number", "email", "money", "date", "version", "quote", "error", "name"
]

PEOPLE: Final = (
    "Priya Raman", "Tomás Oliveira", "Hannah Weiss", "Kenji Mori", "Lucy Adebayo", "Marek Novak", "Sofia Lind",
    "Omar Haddad", "Grace Kim", "Ivan Petrov", "Chloe Martin", "Daniel Osei",
)  # fmt: skip
_NOUNS: Final = (
    "invoice", "order", "session", "webhook", "ledger", "cart", "refund", "shipment", "quota", "token", "report",
    "profile", "catalog", "payment", "tenant", "digest", "upload", "schedule", "coupon", "audit", "export", "region",
)  # fmt: skip
_VERBS: Final = (
    "load", "parse", "merge", "retry", "validate", "render", "publish", "settle", "expire", "dispatch", "collect",
    "rotate", "apply", "resolve", "flush", "enqueue", "backfill", "reconcile", "normalize", "lock",
)  # fmt: skip
_LAYERS: Final = ("api", "core", "billing", "workers", "storage", "clients", "jobs", "search", "auth", "reports")
_SYSTEMS: Final = ("checkout", "billing-api", "search-gateway", "notify", "ingest-worker", "edge-proxy", "scheduler")
_DOMAINS: Final = ("acme.io", "northwind.dev", "example-pay.com", "harbor.internal", "bluefin.cloud")
_ENDINGS: Final = {"python": "py", "typescript": "ts", "go": "go", "rust": "rs"}
_ROOTS: Final = {"python": "src", "typescript": "packages", "go": "internal", "rust": "crates"}
_HEX: Final = "0123456789abcdef"
_ALPHANUMERIC: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class Planted:
    """What a turn holds: `text` stands in the turn `seq` word for word."""

    kind: PlantedKind
    text: str
    seq: int


class World:
    """Names repeat as in one project's day: the same few files and services come up again and again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
        choose = self.random.choice
        self.language = choose(sorted(_ENDINGS))
        self.system = choose(_SYSTEMS)
        self.domain = choose(_DOMAINS)
        self.ticket = choose(("PAY", "OPS", "CORE", "WEB", "DATA", "SRE"))
        self.now = datetime(2025, 1, 6, 8, 30, tzinfo=UTC) + timedelta(
            days=self.random.randrange(400), minutes=self.random.randrange(90)
        )
        self.files = self._tree(self.random.randrange(30, 60))
        self.tests = [self._test_of(file) for file in self.files[: len(self.files) // 2]]
        self.people = self.random.sample(PEOPLE, 4)
        self.planted: list[tuple[PlantedKind, str]] = []

    def plant(self, kind: PlantedKind, text: str) -> str:
        self.planted.append((kind, text))
        return text

    def file(self) -> str:
        """Few files are worked on, most are only seen: Zipf's law."""
        return self.plant("path", self._zipf(self.files))

    def test_file(self) -> str:
        return self.plant("path", self._zipf(self.tests))

    def other_path(self) -> str:
        noun = self.noun()
        shapes = (
            f"/var/log/{self.system}/{noun}.log", f"/etc/{self.system}/config.yaml", f"/srv/{self.system}/releases",
            f"~/.config/{self.system}/settings.toml", f"./scripts/{self.verb()}_{noun}.sh", f"docs/runbooks/{noun}.md",
            f"/srv/{self.system}/exports/{noun}-{self.code(6)}.json", f"deploy/helm/{self.system}/values.yaml",
            f"migrations/{self.random.randrange(10, 99):04}_{self.verb()}_{noun}.sql",
        )  # fmt: skip
        return self.plant("path", self.random.choice(shapes))

    def url(self) -> str:
        number, noun = self.random.randrange(100, 9999), self.noun()
        shapes = (
            f"https://github.com/acme/{self.system}/pull/{number}", f"https://ci.{self.domain}/runs/{number * 7919}",
            f"https://grafana.{self.domain}/d/{self.code(9)}/{self.system}?from=now-6h&var-env=prod",
            f"https://{self.system}.{self.domain}/v1/{noun}s/{number}", f"http://localhost:{8000 + number % 900}/healthz",
            f"https://docs.{self.domain}/guides/{noun}#{self.verb()}",
            f"postgres://app@db-{number % 7}.{self.domain}:5432/{noun}s",
        )  # fmt: skip
        return self.plant("url", self.random.choice(shapes))

    def identifier(self) -> str:
        number = self.random.randrange(100, 99999)
        shapes = (
            self._uuid(), self.hexadecimal(40), self.hexadecimal(7), f"{self.ticket}-{number % 5000}", f"#{number % 4000 + 10}",
            f"req_{self.code(10)}", f"ord_{number}", f"trace-{self.hexadecimal(16)}", f"i-0{self.hexadecimal(16)}",
            f"{self.system}-{self.hexadecimal(9)}-{self.code(5)}", f"sha256:{self.hexadecimal(12)}",
        )  # fmt: skip
        return self.plant("id", self.random.choice(shapes))

    def request(self) -> str:
        return self.plant("id", f"req_{self.code(10)}")

    def commit(self) -> str:
        return self.plant("id", self.hexadecimal(7))

    def pod(self) -> str:
        return self.plant("id", f"{self.system}-{self.hexadecimal(9)}-{self.code(5)}")

    def ticket_id(self) -> str:
        return self.plant("id", f"{self.ticket}-{self.random.randrange(100, 5000)}")

    def number(self, low: int = 10, high: int = 999) -> str:
        """Not below 10: a single digit stands somewhere in every text and would survive by accident."""
        return self.plant("number", str(self.random.randrange(max(10, low), high)))

    def measure(self) -> str:
        value = self.random.randrange(11, 990)
        shapes = (
            f"{value} ms", f"{value}ms", f"{value / 10:.1f} s", f"{value / 10:.1f}%", f"{value} MB", f"{value / 100:.2f} GiB",
            f"{value}k", f"{value / 100:.2f}s", f"{value * 13:,}", f"{value} rps", f"{value}Mi",
        )  # fmt: skip
        return self.plant("number", self.random.choice(shapes))

    def decimal(self) -> str:
        return self.plant("number", f"{self.random.randrange(1100, 99900) / 100:.2f}")

    def money(self) -> str:
        value = self.random.randrange(1200, 990_000) / 100
        return self.plant("money", self.random.choice((f"${value:,.2f}", f"€{value:.2f}", f"{value:.2f} USD")))

    def version(self) -> str:
        a, b, c = (self.random.randrange(1, 30) for _ in range(3))
        return self.plant(
            "version", self.random.choice((f"v{a}.{b}.{c}", f"{a}.{b}.{c}", f"{a}.{b}.{c}-rc{a % 3 + 1}"))
        )

    def person(self) -> str:
        return self.plant("name", self.random.choice(self.people))

    def email(self) -> str:
        first, _, last = self.random.choice(self.people).lower().replace("á", "a").partition(" ")
        return self.plant("email", f"{first}.{last}@{self.domain}")

    def day(self) -> str:
        moment = self.now + timedelta(days=self.random.randrange(-40, 40))
        return self.plant("date", moment.strftime(self.random.choice(("%Y-%m-%d", "%d %B %Y", "%B %d"))))

    def stamp(self, style: str) -> str:
        """The next moment of a log."""
        self.now += timedelta(milliseconds=self.random.randrange(3, 4000))
        return self.plant("date", self.now.strftime(style))

    def command(self, text: str) -> str:
        return self.plant("command", text)

    def quote(self, text: str) -> str:
        self.plant("quote", text)
        return f'"{text}"'

    def error(self, text: str) -> str:
        return self.plant("error", text)

    def noun(self) -> str:
        return self.random.choice(_NOUNS)

    def verb(self) -> str:
        return self.random.choice(_VERBS)

    def function(self) -> str:
        return f"{self.verb()}_{self.noun()}"

    def class_name(self) -> str:
        return self.noun().title() + self.random.choice(("Service", "Store", "Client", "Error", "Policy", "Queue"))

    def code(self, length: int) -> str:
        return "".join(self.random.choices(_ALPHANUMERIC, k=length))

    def hexadecimal(self, length: int) -> str:
        """With a digit and a letter, so that nobody takes it for a number or a word."""
        return (
            "".join(self.random.choices(_HEX, k=length - 2))
            + self.random.choice("23456789")
            + self.random.choice("bcdf")
        )

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def _zipf(self, names: list[str]) -> str:
        return names[min(len(names) - 1, int(self.random.paretovariate(0.7)) - 1)]

    def _uuid(self) -> str:
        return "-".join(self.hexadecimal(length) for length in (8, 4, 4, 4, 12))

    def _tree(self, count: int) -> list[str]:
        root, ending = _ROOTS[self.language], _ENDINGS[self.language]
        found: dict[str, None] = {}
        while len(found) < count:
            parts = [root, self.system.replace("-", "_"), *self.random.sample(_LAYERS, self.random.randrange(1, 3))]
            found["/".join(parts) + f"/{self.random.choice((self.noun(), self.function()))}.{ending}"] = None
        return list(found)

    def _test_of(self, file: str) -> str:
        stem, _, ending = file.rpartition("/")[2].partition(".")
        layer = file.split("/")[2]
        return f"tests/{layer}/test_{stem}.{ending}"

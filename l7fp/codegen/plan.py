"""Policy + classification -> `Plan`: the tables that the kernel programs run on. Pure and deterministic.

Every routing rule keeps its place in first-match order. One that the kernel can't act on (`Slow`, or found to be
too much here: `Plan.demoted`) becomes an instruction to divert, guarded by as many of its conditions as the
kernel can read, so that no request of it ever falls through to a later rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from l7fp import abi
from l7fp.codegen.authorization import Authorization
from l7fp.codegen.automaton import REST, BudgetError, Element, Pattern, Run, encode
from l7fp.codegen.edits import Edits
from l7fp.codegen.programs import Candidate, PathTerm, Programs
from l7fp.codegen.replies import answer
from l7fp.codegen.routes import NO_ROUTE, DestInfo, Routes
from l7fp.codegen.sources import SourceAtom
from l7fp.codegen.tables import Tables
from l7fp.codegen.words import (
    Words,
    header_automaton,
    host_automaton,
    method_automaton,
    query_automaton,
    response_header_automaton,
)
from l7fp.ir.model import Endpoint, FieldKind, Policy, RouteTable, VirtualHost
from l7fp.ir.passes.classify import Classification, Slow

MAX_VHOST_STATES = 20_000
"""Path-automaton states of a virtual host beyond those that its patterns' own text takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one policy version puts into its maps. Start states are cell indexes, 0 for none."""

    tables: dict[str, bytes]
    counts: dict[str, int]
    ports: dict[int, bytes]
    source_atoms: tuple[SourceAtom, ...]
    source_ip_atoms: tuple[str, ...]
    header_dfa: int
    response_header_dfa: int
    query_dfa: int
    method_dfa: int
    host_bits_dfa: int
    n_bits: int
    endpoints: tuple[Endpoint, ...]
    rule_names: tuple[str, ...]
    authz_names: tuple[str, ...]
    dests: tuple[DestInfo, ...]
    clusters: tuple[str, ...]
    features: frozenset[str]
    demoted: tuple[tuple[str, str], ...]


def build(policy: Policy, classification: Classification) -> Plan:
    """The plan of `policy`. A rule or field that turns out too large for a table goes to `demoted`."""
    refused: frozenset[tuple[FieldKind, str]] = frozenset()
    while True:
        planner = _Planner(policy, classification, refused)
        try:
            return planner.run()
        except _WordTooLarge as e:
            refused |= {e.word}


class _WordTooLarge(Exception):
    def __init__(self, word: tuple[FieldKind, str]) -> None:
        super().__init__(word)
        self.word = word


class _Planner:
    def __init__(
        self, policy: Policy, classification: Classification, refused: frozenset[tuple[FieldKind, str]]
    ) -> None:
        self.policy = policy
        self.tables = Tables()
        self.words = Words(refused=refused)
        self.programs = Programs(self.tables)
        self.edits = Edits(self.tables)
        slow_authz = frozenset(n for n, p in classification.authz.items() if isinstance(p, Slow))
        self.authorization = Authorization(
            self.tables, self.words, self.programs, {p.name: p for p in policy.authz}, slow_authz
        )
        slow_rules = frozenset(n for n, p in classification.rules.items() if isinstance(p, Slow))
        self.routes = Routes(policy, self.tables, self.words, self.edits, self.authorization, slow_rules)

    def run(self) -> Plan:
        self.no_route = self.tables.add(
            "rules", action=abi.RuleAction.REPLY, counter=self.routes.counter(NO_ROUTE), reply=answer(self.tables, 404)
        )
        ports = {table.port: self.port(table) for table in self.policy.tables}
        header_dfa, query_dfa, method_dfa, host_bits_dfa = self.automata()
        response_header_dfa = response_header_automaton(self.tables, self.edits.response)
        data, counts = self.tables.packed()
        return Plan(
            tables=data,
            counts=counts,
            ports=ports,
            source_atoms=tuple(self.words.source_atoms),
            source_ip_atoms=tuple(self.words.cidr_atoms),
            header_dfa=header_dfa,
            response_header_dfa=response_header_dfa,
            query_dfa=query_dfa,
            method_dfa=method_dfa,
            host_bits_dfa=host_bits_dfa,
            n_bits=self.words.used,
            endpoints=tuple(self.routes.endpoints),
            rule_names=tuple(self.routes.counters),
            authz_names=tuple(self.authorization.names),
            dests=tuple(self.routes.dests),
            clusters=tuple(self.routes.clusters),
            features=self.features(),
            demoted=tuple(self.routes.demoted.items()),
        )

    def automata(self) -> tuple[int, int, int, int]:
        """Start states of the header, query, method and host automata."""
        for kind, name, word in self.words.all():
            try:
                word.automaton(self.tables)
            except BudgetError as e:
                raise _WordTooLarge((kind, name)) from e
        return (
            header_automaton(self.tables, self.words, self.edits.request),
            query_automaton(self.tables, self.words),
            method_automaton(self.tables, self.words),
            host_automaton(self.tables, self.words),
        )

    def features(self) -> frozenset[str]:
        """What of the program this policy needs."""
        rows = self.tables.rows
        dests = [abi.BY_NAME["dest"].unpack(row) for row in rows["dests"]]
        present = {
            "has_authz": bool(rows["authz"]),
            "has_query": bool(self.words.queries),
            "has_request_edits": any(d["request_edit"] != abi.NONE for d in dests),
            "has_response_edits": any(d["response_edit"] != abi.NONE for d in dests),
            "has_replies": bool(rows["replies"]),
            "has_source": bool(self.words.source_atoms),
            "has_source_ip": bool(self.words.cidr_atoms),
        }
        return frozenset(name for name, needed in present.items() if needed)

    def port(self, table: RouteTable) -> bytes:
        """The `port_entry` of a route table; adds its virtual hosts."""
        domains: list[tuple[tuple[int, int], Pattern, int]] = []
        for vhost in table.virtual_hosts:
            index = self.vhost(vhost, table.port)
            domains += [(*ranked, index) for domain in vhost.domains for ranked in domain_patterns(domain)]
        domains.sort(key=lambda d: d[0])
        outputs = [index + 1 for _, _, index in domains]
        host_dfa = 0
        if domains:
            host_dfa = self.tables.automaton(
                [(n, pattern) for n, (_, pattern, _) in enumerate(domains)],
                lambda accepted: outputs[(accepted & -accepted).bit_length() - 1] if accepted else 0,
                key=("hosts", tuple(outputs)),
                decisive=(1 << len(domains)) - 1,
                max_states=MAX_VHOST_STATES + 4 * sum(len(d) for v in table.virtual_hosts for d in v.domains),
            )
        return abi.BY_NAME["port_entry"].pack(host_dfa=host_dfa)

    def vhost(self, vhost: VirtualHost, port: int) -> int:
        """Index of the virtual host's record."""
        candidates: list[Candidate] = []
        owners: list[str] = []
        for rule in vhost.rules:
            made = self.routes.candidates(rule, port)
            candidates += made
            owners += [rule.name] * len(made)
        candidates.append(Candidate(self.no_route))
        while True:
            try:
                path_dfa, fallback = self.programs.decide(candidates, max_states=MAX_VHOST_STATES + _text(candidates))
            except BudgetError as e:
                self.shed(candidates, owners, str(e))
                continue
            return self.tables.intern("vhosts", path_dfa=path_dfa, fallback=fallback)

    def shed(self, candidates: list[Candidate], owners: list[str], why: str) -> None:
        """Take the most expensive kind of path pattern out of a list whose automaton exploded.

        Its candidates stay in place, no longer depend on the path, and divert.
        """
        worst = max(_cost(c) for c in candidates)
        for n, name in enumerate(owners):
            if _cost(candidates[n]) == worst:
                candidates[n] = Candidate(self.routes.slow_record(name), (), candidates[n].tests)
                self.routes.demoted.setdefault(name, why)


def _text(candidates: list[Candidate]) -> int:
    """Bytes of all literals: states that an automaton of these patterns has without any explosion."""
    patterns = (p for c in candidates for term in c.paths for p in term.patterns)
    return sum(len(e) for p in patterns for e in p.elements if isinstance(e, bytes))


def _cost(candidate: Candidate) -> int:
    """How much the candidate's path patterns tend to multiply states."""
    patterns = [p for term in candidate.paths for p in term.patterns]
    return max((1 + sum(isinstance(e, Run) for e in p.elements[:-1]) for p in patterns), default=0)


_ANY = Run(REST.bytes, 1)
_PORT: tuple[Element, ...] = (b":", Run(frozenset(b"0123456789"), 1))


def domain_patterns(domain: str) -> list[tuple[tuple[int, int], Pattern]]:
    """(rank, pattern) of a virtual host's domain: as sent before without the port, each time exact before
    the longest `*.suffix`, and `*` last."""
    if domain == "*":
        return [((4, 0), Pattern((REST,), True))]
    if domain.startswith("*"):
        suffix = encode(domain[1:])
        return [
            ((1, -len(suffix)), Pattern((_ANY, suffix), True)),
            ((3, -len(suffix)), Pattern((_ANY, suffix, *_PORT), True)),
        ]
    name = encode(domain)
    return [((0, 0), Pattern((name,), True)), ((2, 0), Pattern((name, *_PORT), True))]


__all__ = ["DestInfo", "PathTerm", "Plan", "build", "domain_patterns"]

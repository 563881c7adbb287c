"""The policy file: what it says, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.budget.budgets import Budget, Scope, Window
from cluster.budget.policy import NO_POLICY, Policy, load_policy
from cluster.errors import PolicyError

FILE = """
tenants:
  acme: {weight: 2, max_calls: 10, calling_hours: "Mo-Sa 08:00-21:00"}
campaigns:
  spring: {max_calls: 4, calling_hours: "Mo-Fr 10:00-18:00"}
trunks:
  ST_world: {calls_per_second: 1, max_calls: 20, prefixes: ["+1", "+49"]}
  ST_berlin: {prefixes: ["+4930"], numbers: ["+4930123456"]}
gemini_sessions: 50
blocked_numbers: ["+15551230009"]
blocked_prefixes: ["+1900"]
calling_hours: "Mo-Su 09:00-20:00"
inbound_reserve: 2
queue: {size: 100, outbound_ttl_s: 60}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """The file above."""
    path = tmp_path / "policy.yaml"
    path.write_text(FILE)
    return load_policy(path)


def test_whoever_is_not_named_has_the_defaults(policy: Policy) -> None:
    """So has everybody without a file."""
    assert (policy.tenant("acme").weight, policy.tenant("zeta").weight) == (2.0, 1.0)
    assert (policy.campaign("spring").max_calls, policy.campaign("").max_calls) == (4, None)
    assert (policy.trunk("ST_world").calls_per_second, policy.trunk("").calls_per_second) == (1.0, None)
    assert (policy.queue.outbound_ttl_s, policy.queue.inbound_ttl_s) == (60.0, NO_POLICY.queue.inbound_ttl_s)
    assert not NO_POLICY.blocks("+19005550100")
    assert NO_POLICY.trunk_for("+15551230001", "") == ""
    assert NO_POLICY.hours("acme", "") is None


@pytest.mark.parametrize(
    ("to", "from_", "trunk"),
    [
        ("+15551230001", "", "ST_world"),
        ("+4989123456", "", "ST_world"),
        ("+4930999999", "", "ST_berlin"),
        ("+15551230001", "+4930123456", "ST_berlin"),
        ("+33123456789", "", ""),
    ],
)
def test_a_call_goes_by_the_trunk_of_its_number_or_of_the_longest_prefix(
    policy: Policy, to: str, from_: str, trunk: str
) -> None:
    """The number that is shown decides, since no other trunk may show it."""
    assert policy.trunk_for(to, from_) == trunk


def test_the_narrowest_calling_hours_hold(policy: Policy) -> None:
    """The campaign's, else the tenant's, else those of all."""
    assert policy.hours("acme", "spring") == "Mo-Fr 10:00-18:00"
    assert policy.hours("acme", "") == "Mo-Sa 08:00-21:00"
    assert policy.hours("zeta", "autumn") == "Mo-Su 09:00-20:00"


def test_blocked_numbers(policy: Policy) -> None:
    """One by one, and by their beginnings."""
    assert [policy.blocks(number) for number in ("+15551230009", "+19005550100", "+15551230001", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert "+15551230009" not in repr(policy)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inbound_reserv: 1", "1: inbound_reserv: there is no such field; did you mean inbound_reserve?"),
        ("tenants:\n  acme: {weight: 0}", "2: tenants.acme.weight: input should be greater than 0"),
        ("blocked_numbers: [+15551230001]", "1: blocked_numbers.0: should be a text; put quotes around it"),
        ('blocked_prefixes: ["1900"]', "1: blocked_prefixes.0: string should match pattern"),
        ("calling_hours: always", "1: calling_hours: 'always' is not calling hours"),
        (
            'trunks:\n  a: {prefixes: ["+1"]}\n  b:\n    prefixes:\n    - "+1"',
            "5: trunks.b.prefixes.0: stands at a too; a call goes by one trunk",
        ),
        (
            'trunks:\n  a: {numbers: ["+15551230001", "+15551230001"]}',
            "2: trunks.a.numbers.1: stands at a too; a call goes by one trunk",
        ),
        ("", "1: expected `field: value` lines"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    """Before it takes effect."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{tmp_path.name}/policy.yaml:{problem}")


BUDGETS = """
budgets:
  - {tenant: acme, per: month, cap_usd: 500.25, time_zone: Europe/Berlin}
  - {campaign: spring, cap_usd: 100}
  - {profile: "*", per: day, cap_usd: 20}
"""


def test_budgets_are_those_of_the_file_and_a_day_of_every_tenant(tmp_path: Path) -> None:
    """Unless the file has one."""
    path = tmp_path / "policy.yaml"
    path.write_text(BUDGETS)
    daily = Budget(scope=Scope.TENANT, name="*", window=Window.DAY, cap_usd_micros=7)
    berlin = Budget(
        scope=Scope.TENANT, name="acme", window=Window.MONTH, cap_usd_micros=500_250_000, time_zone="Europe/Berlin"
    )
    spring = Budget(scope=Scope.CAMPAIGN, name="spring", window=Window.TOTAL, cap_usd_micros=100_000_000)
    profiles = Budget(scope=Scope.PROFILE, name="*", window=Window.DAY, cap_usd_micros=20_000_000)
    assert load_policy(path).caps(7) == (berlin, spring, profiles, daily)
    path.write_text(BUDGETS + '  - {tenant: "*", per: day, cap_usd: 1}\n')
    assert daily not in load_policy(path).caps(7)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{cap_usd: 1}", "policy.yaml:3: budgets.0: name exactly one of tenant, campaign and profile"),
        ("{tenant: a, profile: b, cap_usd: 1}", "name exactly one of tenant, campaign and profile"),
        ("{tenant: a}", "policy.yaml:3: budgets.0.cap_usd: is missing"),
        ("{tenant: a, cap_usd: -1}", "budgets.0.cap_usd"),
        ("{tenant: a, cap_usd: 1, per: week}", "budgets.0.per"),
        ("{tenant: a, cap_usd: 1, time_zone: Berlin}", "budgets.0.time_zone: there is no such time zone"),
        ("{tenant: a, cap_usd: 1}\n- {tenant: a, cap_usd: 2}", "policy.yaml:4: budgets.1: the tenant a has a budget"),
    ],
)
def test_a_budget_that_is_wrong_is_refused_with_its_line(tmp_path: Path, entry: str, problem: str) -> None:
    """Before it is used."""
    path = tmp_path / "policy.yaml"
    path.write_text(f"\nbudgets:\n- {entry}\n")
    with pytest.raises(PolicyError, match=problem):
        load_policy(path)

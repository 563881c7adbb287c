"""The campaign's file: what is wrong in it is said with its line."""

from __future__ import annotations

import pytest

from cluster.campaign.contacts import Contact, ContactsError, Rejected
from cluster.campaign.file import CampaignError, load_campaign
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import EXAMPLES
from tests.fixtures.campaign import TEXT, Folder

NOW = 1_796_000_000.0


def test_the_example_is_a_campaign() -> None:
    """Five contacts, one suppressed, one twice."""
    campaign = load_campaign(EXAMPLES / "campaign" / "campaign.yaml", load_profiles(EXAMPLES, load_models()))
    found = list(campaign.contacts(NOW))
    assert sum(isinstance(one, Contact) for one in found) == 5
    assert {one.why for one in found if isinstance(one, Rejected)} == {"duplicate", "suppressed"}
    assert campaign.waits_s["busy"] == (600.0, 3600.0)
    assert campaign.max_cost_usd_micros == 250_000


def test_limits_are_tightened_only(folder: Folder) -> None:
    """The profile's hold where the campaign has none, or higher ones."""
    assert folder.load().max_cost_usd_micros == 500_000
    assert folder.load(TEXT + "call: {max_cost_usd: 0.60}\n").max_cost_usd_micros == 500_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: test", "name: Test One", "c/campaign.yaml:1: name: string should match pattern"),
        ("profile: reminder", "profile: nobody", "c/campaign.yaml:2: profile: there is no such profile; there are"),
        (", when: when", "", "6: contacts.context: the profile reminder also needs: when"),
        ("when: when}", "when: when, x: y}", "6: contacts.context: the profile reminder has no variable x"),
        ("Mo-Fr", "Mo-Fry", "7: hours: 'Mo-Fry 09:00-20:00' is not calling hours"),
        ("busy:", "bussy:", "11: retries.after.bussy: is no outcome that is called again; did you mean busy?"),
        ("busy:", "actor-died:", "11: retries.after.actor-died: is no outcome that is called again; there are"),
        ("[10m]", "[10m, soon]", "11: retries.after.busy: soon is no time to wait"),
        ("contacts.csv", "nothing.csv", "4: contacts.file: there is no file nothing.csv beside the campaign's"),
        ("name: test", "name: test\nsuppression: no.txt", "2: suppression: there is no file no.txt"),
        (
            "concurrency: 10",
            "concurency: 10",
            "8: pacing.concurency: there is no such field; did you mean concurrency?",
        ),
        ("name: test", "name: test\nstop: {at: 2026-12-24}", "2: stop.at:"),
    ],
)
def test_what_is_wrong_has_a_line(folder: Folder, old: str, new: str, expected: str) -> None:
    """And says what to write."""
    with pytest.raises(CampaignError) as caught:
        folder.load(TEXT.replace(old, new, 1))
    assert expected in str(caught.value)


def test_contacts_are_lines_of_text(folder: Folder) -> None:
    """JSONL by its name; other encodings are refused."""
    folder.write("c.jsonl", '{"phone": "+14155550101", "first": "Sam", "when": "now"}\n')
    (contact,) = folder.load(TEXT.replace("contacts.csv", "c.jsonl")).contacts(NOW)
    assert isinstance(contact, Contact)
    (folder.path / "contacts.csv").write_bytes("first,phone,when\nJosé,+14155550101,x\n".encode("latin-1"))
    with pytest.raises(ContactsError, match=r"contacts\.csv:1: it is not UTF-8"):
        list(folder.load().contacts(NOW))


def test_what_was_there_may_be_gone(folder: Folder) -> None:
    """Between the check and the reading."""
    campaign = folder.load()
    (folder.path / "contacts.csv").unlink()
    with pytest.raises(ContactsError, match=r"contacts\.csv:1: can't be read: No such file"):
        list(campaign.contacts(NOW))


def test_the_suppression_list_is_read(folder: Folder) -> None:
    """It protects whoever stands in it."""
    folder.write("no.txt", "+14155550101\n")
    first, second = folder.load(TEXT + "suppression: no.txt\n").contacts(NOW)
    assert isinstance(first, Rejected)
    assert isinstance(second, Contact)

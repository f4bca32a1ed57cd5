"""Signing in as the manual has it: convention number and password, three tries, the mailed link; users and rights."""

import asyncio
import base64
import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest

from domain import push
from domain.access import Right, Role
from escarcelle import database as escarcelle_database
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import next_of, within
from tests.flows.cast import REQUEST, Cast
from tests.world import PASSWORD, environment

pytestmark = pytest.mark.anyio

SESSION = "... on Session { token deviceToken expiresAt viewer { user { login role mustChangePassword locked } } }"
DONE = "... on Done { message reference }"
USER = (
    "... on User { id login name email role active locked locale mustChangePassword"
    " grants { rights pointOfSale { code } } }"
)
WRONG = "pas le bon mot de passe"
NEW = "un tout nouveau mot de passe"


class Device:
    """A browser or a till at the sign-in page."""

    def __init__(self, cast: Cast, login: str, device_token: str | None = None) -> None:
        self.cast, self.login, self.device_token = cast, login, device_token
        self.client = Client(cast.running.url)

    async def __aenter__(self) -> "Device":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.__aexit__()

    async def try_password(self, password: str) -> dict[str, Any]:
        known = {"deviceToken": self.device_token} if self.device_token else {}
        slug = self.cast.world.slug
        return await self.client.do("signIn", SESSION, issuer=slug, login=self.login, password=password, **known)


async def _mailed_token(cast: Cast, to: str, about: str) -> str:
    mail = await cast.running.mail(to, about)
    found = re.search(r"/password/([A-Za-z0-9_-]+)", mail["text"])
    assert found, mail["text"]
    return found.group(1)


@pytest.mark.parametrize(
    ("login", "password", "field"), [("", PASSWORD, "login"), ("  ", PASSWORD, "login"), ("708900", "", "password")]
)
async def test_P1_login_and_password_are_both_mandatory(cast: Cast, login: str, password: str, field: str) -> None:
    async with Device(cast, login) as device:
        refused = await device.try_password(password)
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", field])


async def test_P1_the_convention_number_opens_the_merchant_s_space(cast: Cast) -> None:
    async with Device(cast, " 708900 ") as device:
        session = await device.try_password(PASSWORD)
    assert session["viewer"]["user"] == {
        "login": "708900",
        "role": "MERCHANT_MANAGER",
        "mustChangePassword": False,
        "locked": False,
    }


async def test_P2_wrong_wrong_right_is_in_and_the_count_starts_anew(cast: Cast) -> None:
    async with Device(cast, "708900") as device:
        for left in (2, 1):
            refused = await device.try_password(WRONG)
            assert (refused["code"], f"Essais restants : {left}" in refused["message"]) == ("BAD_CREDENTIALS", True)
        assert (await device.try_password(PASSWORD))["__typename"] == "Session"
        assert "Essais restants : 2" in (await device.try_password(WRONG))["message"]


async def test_P2_the_third_wrong_password_locks_until_the_mailed_link(cast: Cast) -> None:
    mailbox = f"signataire@{cast.world.slug}.example"
    async with Device(cast, "708900") as device:
        codes = [(await device.try_password(WRONG))["code"] for _ in range(3)]
        assert codes == ["BAD_CREDENTIALS", "BAD_CREDENTIALS", "ACCOUNT_LOCKED"]
        assert (await device.try_password(PASSWORD))["code"] == "ACCOUNT_LOCKED", "the right one too"
        token = await _mailed_token(cast, mailbox, "bloqué")
        done = await device.client.do("resetPassword", DONE, token=token, newPassword=NEW)
        assert done["__typename"] == "Done", done
        assert (await device.try_password(PASSWORD))["code"] == "BAD_CREDENTIALS", "the old one is no more"
        assert (await device.try_password(NEW))["__typename"] == "Session"
        again = await device.client.do("resetPassword", DONE, token=token, newPassword=NEW)
        assert again["code"] == "TOO_LATE", "a link works once"


async def test_P2_two_wrong_passwords_at_once_lock_exactly_once(cast: Cast) -> None:
    async with Device(cast, "708900") as device:
        await device.try_password(WRONG)
        both = await asyncio.gather(device.try_password(WRONG), device.try_password(WRONG))
    assert sorted(refused["code"] for refused in both) == ["ACCOUNT_LOCKED", "BAD_CREDENTIALS"]
    rows = await cast.world.as_owner(
        "SELECT failures, locked_at FROM sign_in_guards WHERE tenant = $1", cast.world.tenant
    )
    assert [(row["failures"], row["locked_at"] is not None) for row in rows] == [(3, True)]
    resets = await cast.world.as_owner("SELECT reason FROM password_resets WHERE tenant = $1", cast.world.tenant)
    assert [row["reason"] for row in resets] == ["LOCKED"]


async def test_P2_a_stranger_can_not_keep_the_owner_out(cast: Cast) -> None:
    async with Device(cast, "708900") as known:
        known.device_token = (await known.try_password(PASSWORD))["deviceToken"]
        assert known.device_token
        async with Device(cast, "708900") as stranger:
            for _ in range(4):
                refused = await stranger.try_password(WRONG)
            assert refused["code"] == "ACCOUNT_LOCKED"
            assert (await known.try_password(PASSWORD))["__typename"] == "Session", "a known device has its own count"
            token = await _mailed_token(cast, f"signataire@{cast.world.slug}.example", "bloqué")
            async with Device(cast, "708900") as other:
                done = await other.client.do("resetPassword", DONE, token=token, newPassword=NEW)
                for _ in range(3):
                    await stranger.try_password(WRONG)
                assert (await other.try_password(NEW))["code"] == "ACCOUNT_LOCKED"
                other.device_token = done["reference"]
                assert (await other.try_password(NEW))["__typename"] == "Session", "the link made the device known"
        somebody_else = Device(cast, "808100", known.device_token)
        for _ in range(3):
            refused = await somebody_else.try_password(WRONG)
        assert refused["code"] == "ACCOUNT_LOCKED", "a device is known to one user only"
        await somebody_else.client.__aexit__()


async def test_AP8_a_lock_leaves_open_devices_alone(cast: Cast) -> None:
    async with Device(cast, "p001") as device:
        for _ in range(3):
            await device.try_password(WRONG)
    assert (await cast.ask())["status"] == "AWAITING_PAYMENT"


async def test_AP8_the_link_is_good_for_an_hour(cast: Cast) -> None:
    async with Client(cast.running.url) as device:
        asked = await device.do("requestPasswordReset", DONE, issuer=cast.world.slug, login="708900")
        token = await _mailed_token(cast, f"signataire@{cast.world.slug}.example", "mot de passe")
        await cast.world.as_owner(
            "UPDATE password_resets SET expires_at = expires_at - interval '1 hour' WHERE tenant = $1",
            cast.world.tenant,
        )
        async with cast.world.unchanged():
            assert (await device.do("resetPassword", DONE, token=token, newPassword=NEW))["code"] == "TOO_LATE"
            for forged in (token[:-1] + ("A" if token[-1] != "A" else "B"), "A" * 48, "", "x"):
                refused = await device.do("resetPassword", DONE, token=forged, newPassword=NEW)
                assert refused["code"] == "NOT_FOUND"
            unknown = await device.do("requestPasswordReset", DONE, issuer=cast.world.slug, login="nobody")
            assert unknown == asked, "nobody is told who exists"


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaa", "x" * 201])
async def test_a_new_password_must_be_long_and_varied(cast: Cast, password: str) -> None:
    async with await cast.running.client(cast.world, "708900") as client, cast.world.unchanged():
        refused = await client.do("changePassword", SESSION, currentPassword=PASSWORD, newPassword=password)
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "newPassword"])


async def test_a_changed_password_ends_every_other_session(cast: Cast) -> None:
    async with await cast.running.client(cast.world, "708900") as client:
        wrong = await client.do("changePassword", SESSION, currentPassword=WRONG, newPassword=NEW)
        assert (wrong["code"], wrong["problems"][0]["path"]) == ("BAD_CREDENTIALS", ["input", "currentPassword"])
        session = await client.do("changePassword", SESSION, currentPassword=PASSWORD, newPassword=NEW)
        with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
            await client.ask("{ viewer { user { login } } }")
        client.token = session["token"]
        assert (await client.ask("{ viewer { user { login } } }"))["viewer"]["user"]["login"] == "708900"
    with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
        await cast.signatory.ask("{ viewer { user { login } } }")


async def test_a_temporary_password_opens_nothing_but_its_change(cast: Cast) -> None:
    await cast.world.as_owner(
        "UPDATE passwords SET temporary = true FROM users u WHERE u.id = user_id AND u.login = 'p001' AND u.tenant = $1",  # noqa: E501
        cast.world.tenant,
    )
    async with Device(cast, "p001") as device:
        session = await device.try_password(PASSWORD)
        assert session["viewer"]["user"]["mustChangePassword"] is True
        device.client.token = session["token"]
        for document in (
            "{ pointsOfSale { nodes { id } } }",
            "{ paymentRequests { totalCount } }",
            "{ devices { id } }",
        ):
            with pytest.raises(Unexpected, match="PASSWORD_CHANGE_REQUIRED"):
                await device.client.ask(document)
        with pytest.raises(Unexpected, match="PASSWORD_CHANGE_REQUIRED"):
            await cast.ask(till=device.client)
        changed = await device.client.do("changePassword", SESSION, currentPassword=PASSWORD, newPassword=NEW)
        assert changed["viewer"]["user"]["mustChangePassword"] is False
        device.client.token = changed["token"]
        assert (await cast.ask(till=device.client))["status"] == "AWAITING_PAYMENT"


async def test_sessions_are_listed_and_one_that_is_revoked_closes_its_sockets(cast: Cast) -> None:
    request = await cast.ask()
    async with await cast.running.client(cast.world, "p001") as other:
        devices = (await other.ask("{ devices { id current description startedAt } }"))["devices"]
        assert [device["current"] for device in devices] == [True, False]
        live = f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ {REQUEST} }} }}"
        async with cast.till.subscribe(live, id=request["id"]) as events:
            await next_of(events, 30, "till")
            theirs = (await cast.ines.ask("{ devices { id } }"))["devices"][0]["id"]
            assert (await other.do("signOutDevice", DONE, id=theirs))["code"] == "NOT_FOUND"
            assert (await other.do("signOutDevice", DONE, id=devices[1]["id"]))["__typename"] == "Done"
            with pytest.raises(Exception, match="4403"):
                await next_of(events, 30, "the end")
        assert len((await other.ask("{ devices { id } }"))["devices"]) == 1
    with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
        await cast.till.ask("{ viewer { user { id } } }")


async def test_a_new_password_keeps_the_device_s_pushes(cast: Cast) -> None:
    registers = (
        "mutation ($input: PushSubscriptionInput!) { subscribeToPush(input: $input) { ... on Done { message } } }"
    )
    keys = {"p256dh": push.public_key(cast.world.servers.settings), "auth": "AAAAAAAAAAAAAAAAAAAAAA"}
    async with await cast.running.client(cast.world, "ines") as phone:
        for client, name in ((cast.ines, "kept"), (phone, "gone")):
            await client.ask(registers, input={"endpoint": f"https://push.example.com/{name}", **keys})
        changed = await cast.ines.do("changePassword", SESSION, currentPassword=PASSWORD, newPassword=NEW)
        assert changed["token"]
    rows = await cast.world.as_owner(
        "SELECT p.endpoint, s.status FROM push_subscriptions p JOIN sessions s ON s.id = p.session_id"
        " WHERE p.tenant = $1",
        cast.world.tenant,
    )
    assert [tuple(row) for row in rows] == [("https://push.example.com/kept", "OPEN")]


async def test_a_session_says_when_it_was_last_used(cast: Cast) -> None:
    seen = "{ devices { startedAt lastSeenAt } }"
    (device,) = (await cast.ines.ask(seen))["devices"]
    assert device["startedAt"] == device["lastSeenAt"], "it has just begun"
    await cast.world.as_owner(
        "UPDATE sessions SET last_seen_at = last_seen_at - interval '5 minutes' WHERE tenant = $1", cast.world.tenant
    )
    (device,) = (await cast.ines.ask(seen))["devices"]
    assert device["lastSeenAt"] > device["startedAt"]
    assert (await cast.ines.ask(seen))["devices"] == [device], "not written down at every request"


async def test_P3_a_signatory_chooses_the_point_of_sale_and_staff_has_only_its_own(cast: Cast) -> None:
    places = "{ pointsOfSale { nodes { code } } }"
    seen = {}
    for name in ("signatory", "till", "other_till", "stranger", "agent"):
        client: Client = getattr(cast, name)
        seen[name] = [node["code"] for node in (await client.ask(places))["pointsOfSale"]["nodes"]]
    assert seen == {
        "signatory": ["P002", "P001"],
        "till": ["P001"],
        "other_till": ["P002"],
        "stranger": ["A001"],
        "agent": ["A001", "P002", "P001"],
    }
    read = "query ($id: ID!) { node(id: $id) { id } }"
    assert (await cast.till.ask(read, id=cast.world.places["P002"].global_id))["node"] is None
    assert (await cast.till.ask(read, id=cast.world.merchants["808100"].global_id))["node"] is None


async def test_P4_rights_are_held_point_by_point(cast: Cast) -> None:
    await cast.world.user("lecture", Role.MERCHANT_STAFF, merchant="708900", grants={"P001": frozenset({Right.EXPORT})})
    request = await cast.ask(validationDays=2, customerIdentifier="ines")
    async with await cast.running.client(cast.world, "lecture") as reader:
        assert (await cast.read(request, reader))["allowedActions"] == []
        async with cast.world.unchanged():
            assert (await cast.ask(till=reader, basketNumber="x"))["code"] == "FORBIDDEN"
            for verb in ("cancelPaymentRequest", "validatePaymentRequest"):
                assert (await reader.do(verb, REQUEST, id=request["id"]))["code"] == "FORBIDDEN", verb


async def test_P4_what_a_user_may_be_offered_is_what_the_deeds_allow(cast: Cast) -> None:
    await cast.world.user("admin", Role.ISSUER_ADMIN)
    about = "{ users { nodes { id login allowedActions } } }"
    both, own = ["CHANGE", "DEACTIVATE"], ["CHANGE"]
    async with await cast.running.client(cast.world, "admin") as admin:
        everyone = {each["login"]: each for each in (await admin.ask(about))["users"]["nodes"]}
        assert {login: each["allowedActions"] for login, each in everyone.items()} == {
            login: own if login == "admin" else both for login in everyone
        }
    seen = {each["login"]: each for each in (await cast.agent.ask(about))["users"]["nodes"]}
    assert {login: seen[login]["allowedActions"] for login in ("admin", "agent", "708900", "p001", "ines")} == {
        "admin": [], "agent": own, "708900": both, "p001": both, "ines": both
    }  # fmt: skip
    staff = {each["login"]: each["allowedActions"] for each in (await cast.signatory.ask(about))["users"]["nodes"]}
    assert staff == {"708900": own, "p001": both, "p002": both}
    async with cast.world.unchanged():
        for client, login, mutation in (
            (cast.agent, "admin", "updateUser"), (cast.agent, "admin", "deactivateUser"),
            (cast.agent, "agent", "deactivateUser"), (cast.signatory, "708900", "deactivateUser"),
        ):  # fmt: skip
            assert (await client.do(mutation, USER, id=everyone[login]["id"]))["code"] == "FORBIDDEN", (login, mutation)
    assert (await cast.agent.do("deactivateUser", "... on User { allowedActions }", id=seen["p001"]["id"]))[
        "allowedActions"
    ] == own


async def test_P4_an_invitation_sent_again_with_its_key_invites_once(cast: Cast) -> None:
    rights = ["COLLECT", "VALIDATE", "EXPORT"]
    places = [cast.world.places[code].global_id for code in ("P001", "P002")]
    jeanne: dict[str, Any] = {
        "login": "jeanne", "name": "Jeanne", "email": "jeanne@example.com", "role": "MERCHANT_STAFF",
        "grants": [{"pointOfSaleId": place, "rights": rights} for place in places], "idempotencyKey": "jeanne",
    }  # fmt: skip
    made = await cast.signatory.do("createUser", USER, **jeanne)
    assert made["__typename"] == "User", made
    async with cast.world.unchanged():
        turned = [{"pointOfSaleId": place, "rights": rights[::-1]} for place in places[::-1]]
        assert await cast.signatory.do("createUser", USER, **(jeanne | {"grants": turned})) == made
        for other in ({"name": "Jean"}, {"grants": turned[:1]}):
            assert (await cast.signatory.do("createUser", USER, **(jeanne | other)))["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_P4_a_signatory_manages_the_staff_of_its_merchant_only(cast: Cast) -> None:
    mailbox = f"jeanne@{cast.world.slug}.example"
    grants = [{"pointOfSaleId": cast.world.places["P001"].global_id, "rights": ["COLLECT"]}]
    jeanne = await cast.signatory.do(
        "createUser", USER, login="jeanne", name="Jeanne", email=mailbox, role="MERCHANT_STAFF", grants=grants
    )
    assert (jeanne["role"], jeanne["grants"]) == (
        "MERCHANT_STAFF",
        [{"rights": ["COLLECT"], "pointOfSale": {"code": "P001"}}],
    )
    async with Device(cast, "jeanne") as device:
        assert (await device.try_password("!"))["code"] == "BAD_CREDENTIALS"
        token = await _mailed_token(cast, mailbox, "jeanne")
        device.device_token = (await device.client.do("resetPassword", DONE, token=token, newPassword=NEW))["reference"]
        device.client.token = (await device.try_password(NEW))["token"]
        assert (await cast.ask(till=device.client))["status"] == "AWAITING_PAYMENT"
        await cast.signatory.do("updateUser", USER, id=jeanne["id"], grants=[{**grants[0], "rights": ["VALIDATE"]}])
        with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
            await cast.ask(till=device.client)
        device.client.token = None
        device.client.token = (await device.try_password(NEW))["token"]
        assert (await cast.ask(till=device.client, basketNumber="y"))["code"] == "FORBIDDEN"
        assert (await cast.signatory.do("deactivateUser", USER, id=jeanne["id"]))["active"] is False
        device.client.token = None
        assert (await device.try_password(NEW))["code"] == "BAD_CREDENTIALS"
    listed = (await cast.signatory.ask("{ users { nodes { login } } }"))["users"]["nodes"]
    assert [user["login"] for user in listed] == ["708900", "jeanne", "p001", "p002"]
    async with cast.world.unchanged():
        new = {"login": "x", "name": "X", "email": "x@example.com"}
        elsewhere = [{"pointOfSaleId": cast.world.places["A001"].global_id, "rights": ["COLLECT"]}]
        for role, more, code in (
            ("ISSUER_ADMIN", {}, "FORBIDDEN"),
            ("MERCHANT_MANAGER", {}, "FORBIDDEN"),
            ("MERCHANT_STAFF", {"grants": elsewhere}, "NOT_FOUND"),
            ("MERCHANT_STAFF", {"email": "no address"}, "INVALID"),
            ("MERCHANT_STAFF", {"login": "P001"}, "ALREADY_EXISTS"),
        ):
            refused = await cast.signatory.do("createUser", USER, **(new | {"role": role} | more))
            assert refused["code"] == code, (role, more)
        for client in (cast.till, cast.ines):
            assert (await client.do("createUser", USER, **new, role="MERCHANT_STAFF"))["code"] == "FORBIDDEN"
        assert (await cast.stranger.do("deactivateUser", USER, id=jeanne["id"]))["code"] == "NOT_FOUND"
        own = (await cast.signatory.ask("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
        assert (await cast.signatory.do("deactivateUser", USER, id=own))["code"] == "FORBIDDEN"


async def test_P2_the_mailed_link_opens_a_page_that_sets_the_password_without_a_script(cast: Cast) -> None:
    async with Device(cast, "708900") as device, httpx.AsyncClient() as browser:
        for _ in range(3):
            await device.try_password(WRONG)
        link = f"{cast.running.url}/password/" + await _mailed_token(
            cast, f"signataire@{cast.world.slug}.example", "bloqué"
        )
        page = await browser.get(link, headers={"accept-language": "en"})
        assert (page.status_code, "New password" in page.text) == (200, True)
        assert "form-action 'self'" in page.headers["content-security-policy"]
        async with cast.world.unchanged():
            short = await browser.post(link, data={"password": "court"})
            assert (short.status_code, "au moins 10 caractères" in short.text) == (422, True)
            assert (await browser.get(link[:-1] + ("A" if link[-1] != "A" else "B"))).status_code == 404
        done = await browser.post(link, data={"password": NEW})
        assert (done.status_code, "Vous pouvez vous connecter" in done.text) == (200, True)
        assert done.headers["set-cookie"].startswith("__Host-escarcelle-device=")
        assert (await device.try_password(NEW))["__typename"] == "Session"


async def test_P2_the_mailed_link_unlocks_known_devices_too(cast: Cast) -> None:
    async with Device(cast, "708900") as known:
        known.device_token = (await known.try_password(PASSWORD))["deviceToken"]
        for _ in range(3):
            refused = await known.try_password(WRONG)
        assert refused["code"] == "ACCOUNT_LOCKED"
        token = await _mailed_token(cast, f"signataire@{cast.world.slug}.example", "bloqué")
        async with Client(cast.running.url) as elsewhere:
            await elsewhere.do("resetPassword", DONE, token=token, newPassword=NEW)
        assert (await known.try_password(NEW))["__typename"] == "Session"


async def test_AP8_links_die_with_the_password_or_the_address_they_were_sent_for(cast: Cast) -> None:
    mailbox = f"p001@{cast.world.slug}.example"
    async with Client(cast.running.url) as device:

        async def link() -> str:
            before = len(await cast.running.mails(mailbox))
            await device.do("requestPasswordReset", DONE, issuer=cast.world.slug, login="p001")

            async def newest() -> dict[str, Any] | None:
                mails = await cast.running.mails(mailbox)
                return mails[0] if len(mails) > before else None

            mail = await within(60, newest, "the link")
            found = re.search(r"/password/([A-Za-z0-9_-]+)", mail["text"])
            assert found
            return found.group(1)

        first, second = await link(), await link()
        assert (await device.do("resetPassword", DONE, token=second, newPassword=NEW))["__typename"] == "Done"
        assert (await device.do("resetPassword", DONE, token=first, newPassword=NEW))["code"] == "TOO_LATE"
        third = await link()
        user = (await cast.signatory.ask('{ users(search: "P001") { nodes { id } } }'))["users"]["nodes"][0]["id"]
        await cast.signatory.do("updateUser", USER, id=user, email=f"autre@{cast.world.slug}.example")
        assert (await device.do("resetPassword", DONE, token=third, newPassword=NEW))["code"] == "TOO_LATE"


async def test_P4_nobody_changes_its_own_role_and_a_point_of_sale_stands_once(cast: Cast) -> None:
    own = (await cast.signatory.ask("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    grant = {"pointOfSaleId": cast.world.places["P001"].global_id, "rights": ["COLLECT"]}
    new = {"login": "x", "name": "X", "email": "x@example.com", "role": "MERCHANT_STAFF"}
    other = cast.world.merchants["808100"].global_id
    async with cast.world.unchanged():
        refused = await cast.signatory.do("updateUser", USER, id=own, role="MERCHANT_STAFF")
        assert (refused["code"], refused["problems"][0]["path"]) == ("FORBIDDEN", ["input", "role"])
        assert (await cast.signatory.do("createUser", USER, **new, grants=[grant, grant]))["code"] == "INVALID"
        assert (await cast.signatory.do("createUser", USER, **new, merchantId=other))["code"] == "NOT_FOUND"


async def test_P4_who_is_staff_no_longer_has_no_rights_point_by_point(cast: Cast) -> None:
    user = (await cast.agent.ask('{ users(search: "P001") { nodes { id } } }'))["users"]["nodes"][0]["id"]
    raised = await cast.agent.do("updateUser", USER, id=user, role="MERCHANT_MANAGER", locale="EN")
    assert (raised["role"], raised["locale"], raised["grants"]) == ("MERCHANT_MANAGER", "EN", [])
    grant = {"pointOfSaleId": cast.world.places["P002"].global_id, "rights": ["COLLECT"]}
    lowered = await cast.agent.do("updateUser", USER, id=user, role="MERCHANT_STAFF", grants=[grant])
    assert lowered["grants"] == [{"rights": ["COLLECT"], "pointOfSale": {"code": "P002"}}]
    async with cast.world.unchanged():
        refused = await cast.agent.do("updateUser", USER, id=user, role="MERCHANT_MANAGER", grants=[grant])
        assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "grants"])


async def test_a_key_that_is_replayed_after_the_point_of_sale_was_lost_finds_nothing(cast: Cast) -> None:
    given: dict[str, Any] = {"basketNumber": "R1", "idempotencyKey": "R1"}
    assert (await cast.ask(**given))["status"] == "AWAITING_PAYMENT"
    user = (await cast.signatory.ask('{ users(search: "P001") { nodes { id } } }'))["users"]["nodes"][0]["id"]
    moved = [{"pointOfSaleId": cast.world.places["P002"].global_id, "rights": ["COLLECT"]}]
    await cast.signatory.do("updateUser", USER, id=user, grants=moved)
    async with await cast.running.client(cast.world, "p001") as till:
        place = cast.world.places["P001"].global_id
        again = await till.do("createPaymentRequest", REQUEST, pointOfSaleId=place, amount="40,00", **given)
    assert again["code"] == "NOT_FOUND"


async def test_G6_a_user_is_written_to_in_its_own_language(cast: Cast) -> None:
    mailbox = f"john@{cast.world.slug}.example"
    new = {"login": "john", "name": "John", "email": mailbox, "role": "MERCHANT_MANAGER", "locale": "EN"}
    made = await cast.agent.do("createUser", USER, **new, merchantId=cast.world.merchants["708900"].global_id)
    assert made["__typename"] == "User", made
    assert "Your access is open" in (await cast.running.mail(mailbox, "john"))["subject"]


async def test_G6_who_chooses_a_language_reads_it_in_answers_and_mails(cast: Cast) -> None:
    mailbox = f"signataire@{cast.world.slug}.example"
    for locale, refused, subject in (
        ("EN", "Your rights do not include this operation.", "Your new password"),
        ("FR", "Vos droits ne permettent pas cette opération.", "Votre nouveau mot de passe"),
    ):
        assert (await cast.signatory.do("chooseLanguage", USER, locale=locale))["__typename"] == "User"
        async with cast.world.unchanged():
            await cast.signatory.do("chooseLanguage", USER, locale=locale)
            answer = await cast.signatory.do("advanceClock", "... on Issuer { now }", days=1)
        assert answer["message"] == refused
        await cast.stranger.do(
            "requestPasswordReset", "... on Done { message }", issuer=cast.world.slug, login="708900"
        )
        assert subject in (await cast.running.mail(mailbox, subject))["subject"]


async def test_an_issuer_is_known_without_its_name_only_where_there_is_no_other(cast: Cast) -> None:
    card = "query ($slug: String) { issuer(slug: $slug) { slug } }"
    async with Client(cast.running.url) as stranger:
        assert (await stranger.ask(card, slug=cast.world.slug))["issuer"] == {"slug": cast.world.slug}
        settings = cast.world.servers.settings
        await escarcelle_database.insert_issuer(settings, slug=f"{cast.world.slug}-autre", name="Autre")
        assert (await stranger.ask(card))["issuer"] is None


@pytest.mark.parametrize(
    "values",
    [
        ["0001-01-01T00:00:00+02:00", "00000000-0000-0000-0000-000000000000"],
        ["9999-12-31T23:59:59-12:00", "00000000-0000-0000-0000-000000000000"],
        ["a\x00", "00000000-0000-0000-0000-000000000000"],
        ["a\ud800", "00000000-0000-0000-0000-000000000000"],
        ["a", 5],
    ],
)
async def test_a_forged_cursor_is_refused(cast: Cast, values: list[object]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    for field in ("paymentRequests", "users", "pointsOfSale"):
        answer = await cast.signatory.answer(
            f"query ($after: String) {{ {field}(after: $after) {{ totalCount }} }}", {"after": cursor}
        )
        assert [error["extensions"]["code"] for error in answer.get("errors", [])] in ([], ["BAD_USER_INPUT"]), field


async def test_V9_a_forged_cursor_with_a_number_beyond_all_is_refused(cast: Cast) -> None:
    values = ["9" * 20, "00000000-0000-0000-0000-000000000000"]
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    for order in ("STATUS", "VALUE"):
        document = f"query ($after: String) {{ vouchers(orderBy: {order}, after: $after) {{ nodes {{ id }} }} }}"
        answer = await cast.agent.answer(document, {"after": cursor})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"], order


async def test_a_real_issuer_begins_with_an_administrator_and_a_temporary_password(cast: Cast) -> None:
    slug = f"{cast.world.slug}-bis"
    given = ["--slug", slug, "--name", "Fédération", "--admin-login", "admin", "--admin-email", "admin@example.com"]

    def create() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "escarcelle", "issuer", "create", *given]
        settings = environment(cast.world.servers.settings)
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)

    made = await asyncio.to_thread(create)
    assert made.returncode == 0, made.stderr
    password = made.stdout.split()[-1]
    async with Client(cast.running.url) as client:
        session = await client.do("signIn", SESSION, issuer=slug, login="admin", password=password)
        assert session["viewer"]["user"]["mustChangePassword"] is True
        client.token = session["token"]
        changed = await client.do("changePassword", SESSION, currentPassword=password, newPassword=NEW)
        client.token = changed["token"]
        viewer = await client.ask("{ viewer { issuer { slug name sandbox } user { role } } }")
        assert viewer["viewer"] == {
            "issuer": {"slug": slug, "name": "Fédération", "sandbox": False},
            "user": {"role": "ISSUER_ADMIN"},
        }
    again = await asyncio.to_thread(create)
    assert (again.returncode, "already exists" in again.stderr) == (1, True)

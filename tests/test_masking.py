"""What is masked before a model reads it, what is not, and that people get back what was there."""

import base64
import random
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from explainer.masking import REDACTED, Masker, Name
from explainer.masking.placeholders import SHORTEST, SORTS, TAG
from explainer.masking.tokens import TOKENS

PLACEHOLDER = re.compile(rf"(?:{'|'.join(sorted(SORTS, key=len, reverse=True))})_[{TAG}]{{{SHORTEST},}}")
NAMES = (
    Name("Deployment", "web"),
    Name("ReplicaSet", "web-5d8f7c"),
    Name("Pod", "web-5d8f7c-x2vkq"),
    Name("Deployment", "web-api"),
    Name("namespace", "shop"),
    Name("Node", "ip-10-0-0-1.ec2.internal"),
    Name("image", "registry.acme.com/team/cart:1.2-rc1"),
    Name("namespace", "error"),
    Name("Pod", "test"),
    Name("Service", "a"),
    Name("label", "1"),
    Name("label", "true"),
    Name("label", "1.2"),
    Name("namespace", "default"),
    Name("PersistentVolumeClaim", "data-db-0"),
)


def masker(names: Sequence[Name] = NAMES) -> Masker:
    return Masker(b"the cluster's key", names)


def outline(text: str) -> str:
    """A masked text, every placeholder as a dot."""
    return PLACEHOLDER.sub("•", text)


def check(marked: str, names: Sequence[Name] = ()) -> None:
    """What stands in «» is masked, each by one placeholder, and nothing else is."""
    text = re.sub("[«»]", "", marked)
    mask = masker(names)
    masked = mask.mask(text)
    assert outline(masked) == re.sub("«[^»]*»", "•", marked)
    assert mask.restore(masked) == text


AWS = "AKIA" + "IOSFODNN7EXAMPLQ"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
UID = "123e4567-e89b-12d3-a456-426614174000"
HEX64 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
RANDOM = "q7Zx3PvB9tLm2KdR8wYh5NcJ4sFg6Tua"


@pytest.mark.parametrize(
    "marked",
    [
        # addresses
        "dial tcp «10.96.0.1»:443: connect: connection refused",
        "from «10.0.0.0»/8 to «192.168.1.7»:80",
        "«fe80::1»%eth0 and «2001:db8::ff00:42:8329»/64",
        "[«2001:db8::1»]:8080",
        "«::ffff:10.0.0.1»",
        "node_«10.1.2.3»_up",
        "«10.0.0.1»,«10.0.0.2»",
        "hwaddr «02:42:ac:11:00:02»",
        "host «ip-10-0-0-7» is gone",
        # hosts
        "lookup «redis-master» on «10.96.0.10»:53: no such host",
        "connect to «db.internal.acme.com»:5432",
        "http://«cart»:8080/healthz",
        "http://«cart».«blue».svc.cluster.local/x",
        "«a-1».«cart».«blue».svc",
        "«cart».«blue».svc.«k8s.acme.com»",
        "broker=«kafka-0.acme.lan»:9092",
        "redis_host: «cache7»",
        "Unknown host: «warehouse»",
        "wget «acme.io»",
        # people
        "mail from «alice.b+x@mail.acme.co.uk» refused",
        "open /home/«alice»/.kube/config: no such file",
        # credentials in addresses
        "postgres://«app:s3cr3t»@«orders-db»:5432/orders",
        "https://«tok3n»@github.com/x",
        "«root:p/ss»@tcp(«db.acme.com»:3306)/orders",
        "amqp://«u:p@ss»@«mq.acme.com»/",
        "curl -u bob:«hunter2» https://«x.acme.com»",
        # tokens
        f"using «{AWS}» now",
        f"token_«{AWS}»_old",
        f"Authorization: Bearer «{JWT}»",
        f"got «{JWT}».",
        "Authorization: Basic «dXNlcjpwYXNz»",
        'authorization="«s3cr3tvalue»"',
        "sent bearer «0123abcd4567»",
        "clone with «ghp_" + "a1B2" * 9 + "» failed",
        "«github_pat_" + "a1B2" * 9 + "»",
        "«glpat-" + "a1B2" * 5 + "»",
        "«xoxb-" + "123456789012-" * 2 + "abcdef»",
        "«sk_live_" + "a1B2" * 6 + "»",
        "«sk-ant-api03-" + "a1B2_-" * 6 + "x»",
        "«AIza" + "a1B2" * 8 + "abc»",
        "«npm_" + "a1B2" * 9 + "»",
        "«pypi-" + "AgEIcHlwaS5vcmc" * 2 + "»",
        "«hvs." + "a1B2" * 7 + "»",
        "«abc8Q~" + "a1B2" * 8 + "»",
        "https://«hooks.slack.com/services/T000/B000/XXXX1234»",
        # keys and values
        "password=«hunter2»",
        "DB_PASSWORD='«hunter 2»'",
        'DB_PASSWORD: "«hunter 2»"',
        '{"clientSecret": "«abc»", "id": 3}',
        r"{\"apiKey\":\"«zzz»\",\"user\":\"bob\"}",
        "redis-cli --password «hunter2» ping",
        "app --api-key=«zzz9» --verbose",
        "AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»",
        "GET /v1?token=«abc»&page=2",
        "url?X-Amz-Signature=«abcdef»&x=1",
        "AccountName=x;AccountKey=«abc+/==»;Table=y",
        "x-api-key: «zzz»",
        "Cookie: «a=b; c=d»",
        "jwt.secret.value: «zzz»",
        "passwd => «zzz»",
        "db.pass=«zzz», next",
        "password=«test»",
        "pin=«1234»",
        "postgres://«app:p/ss»@«orders-db»/x",
        "sent Bearer «s3cretvalue»",
        'Authorization: Digest «username="x", response="y"»',
        "https://«discord.com/api/webhooks/1234/abc»",
        "https://«acme.webhook.office.com/webhookb2/abc»",
        # blocks
        "key: «-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE KEY-----» end",
        "«-----BEGIN CERTIFICATE-----\\nMIIEow\\nQQ»: cut off",
        # identifiers
        f"uid {UID}".replace(UID, f"«{UID}»"),
        f"containerd://«{HEX64}»",
        f"web@sha256:«{HEX64}»",
        "sha256:«abc123»",
        "cri-o://«abc123»",
        "container id: «3f2a1b9c8d7e»",
        "provisioned in class «axolotls»",
        "on node «wombat»",
        f"commit «{HEX64[:40]}» failed",
        f"payload «{RANDOM}»",
        "value «cGFzc3dvcmQxMjM=» is wrong",
        "volume «vol-0abc1234def567890» is attached to «i-0abc1234def567890»",
        "«arn:aws:iam::123456789012:role/app-prod» is not authorized",
        # what Kubernetes says
        'secret "«db-login»" not found',
        'deployments.apps "«cart»" not found',
        'persistentvolumeclaim "«orders»" not found',
        'pods "«cart-1»" is forbidden: User "system:serviceaccount:«ops»:«robot»" cannot get it',
        'User "«alice»" cannot list pods',
        f"container=«cart» pod=«cart-1»_«blue»(«{UID}»)",
        "couldn't find key password in Secret «blue»/«login»",
        "Successfully assigned «blue»/«cart-1» to «n7»",
        'Back-off pulling image "«reg.acme.com»:5000/«team/cart»:«1.2-rc1»"',
        "failed to resolve reference «reg.acme.com»/«team/cart»:1.2: not found",
        "ghcr.io/«acme/cart»:v1.2.3",
        "on node «n7»: pod «cart-0» waits",
        "volume for «10.1.2.3», node «db.acme.com» is gone, pod «10.1.2.4»",
        "Unable to mount: unmounted volumes=[«spool»], unattached volumes=[«disk cache-1»]",
        "kubectl get pods -n «blue»",
        # inside what is none of these itself
        "/var/lib/some-longer-path-of-files/for/password=«hunter2»",
        "PWD=«/app?password=hunter2»",
        "cache of «10.1.2.3».txt",
        # where a message was cut
        "by «alice@acme...»",
        "lookup of «db.internal.ac...»",
    ],
)
def test_what_has_a_private_shape_is_masked(marked: str) -> None:
    check(marked)


KINDS = {
    "NAMESPACE": "namespaces",
    "POD": "Pod",
    "DEPLOYMENT": "deployment",
    "STATEFULSET": "StatefulSet",
    "DAEMONSET": "daemonsets",
    "REPLICASET": "replica set",
    "JOB": "job",
    "CRONJOB": "CronJob",
    "SERVICE": "services",
    "NODE": "node",
    "CONTAINER": "init container",
    "SECRET": "secrets",
    "CONFIGMAP": "configmap",
    "CLAIM": "PersistentVolumeClaim",
    "VOLUME": "persistentvolume",
    "SERVICEACCOUNT": "service account",
    "STORAGECLASS": "storageclass",
    "INGRESS": "ingress",
}
QUOTED = ['{} "«tapirs»" not found', r"{} \"«tapirs»\"", "the {} '«tapirs»'", '{}.apps "«tapirs»"']
ASSIGNED = ["{}=«tapirs»", '{{"{}":"«tapirs»"}}']


@pytest.mark.parametrize("sort", KINDS)
def test_what_stands_after_its_kind_is_masked_as_that(sort: str) -> None:
    forms = [*QUOTED]
    if sort != "SECRET":  # what is assigned to that hides as a secret does
        forms += ASSIGNED
    if sort != "NAMESPACE":
        forms.append("{} «tapirs-1» failed")
    for form in forms:
        told = form.format(KINDS[sort])
        check(told)
        assert f"{sort}_" in masker(()).mask(re.sub("[«»]", "", told))


TOKENS_OF = [
    "ASIA" + "ABCDEFGHIJKLMNOP",
    "ABSK" + "a1B2" * 10,
    "gho_" + "a1B2" * 9,
    "GR1348941" + "a1B2" * 5,
    "xapp-1-" + "A1B2" * 5,
    "rk_test_" + "a1B2" * 4,
    "whsec_" + "a1B2" * 6,
    "ya29." + "a1B2" * 6,
    "sk-proj-" + "a1B2" * 6,
    "a.c8Q~" + "a1B2" * 8,
    "pypi-" + "a1B2" * 5,
    "dckr_pat_" + "a1B2" * 6,
    "hf_" + "abcd" * 9,
    "SG." + "a1B2" * 5 + "." + "a1B2" * 8,
    "shpat_" + "a1b2" * 8,
    "123456789:" + "a1B2" * 8 + "abc",
    "AGE-SECRET-KEY-1" + "A1B2" * 14,
    JWT,
]


def test_every_form_of_a_token_has_an_example_and_is_found() -> None:
    for pattern in TOKENS:
        assert any(re.fullmatch(pattern, each) for each in TOKENS_OF), pattern
    for each in TOKENS_OF:
        check(f"using «{each}» now")
        mask = masker(())
        assert mask.unmask(mask.mask(f"x {each}")) == f"x {REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "listening on 127.0.0.1:8080, [::1]:80 and 0.0.0.0",
        "version 1.2.3, v1.35.4, 1.2 and 1.2.3.4.5",
        "300.1.2.3 is no address",
        "at 12:30:45 or 2026-01-01T12:30:45.123Z",
        "std::string and Foo::Bar",
        "main.go:123 config.yaml app.py run.sh: line 3",
        "/usr/local/lib/python3.11/site-packages/requests/adapters.py",
        "java.lang.NullPointerException at org.springframework.boot.SpringApplication",
        "apps/v1 batch/v1 networking.k8s.io/v1 monitoring.coreos.com/v1",
        "node.kubernetes.io/not-ready app.kubernetes.io/name helm.sh/chart nvidia.com/gpu",
        "spec.template.spec.containers[0].image metadata.name status.phase",
        "Insufficient cpu, CrashLoopBackOff, ImagePullBackOff, FailedCreatePodSandBox",
        "MountVolumeSetUpFailedForVolumeBecauseItTimedOut",
        "token: expired",
        "invalid token: unauthorized",
        "secretName: login",
        "max_tokens: 512, tokens=12",
        "password: null",
        "password=***",
        "password=$(DB_PASSWORD)",
        "bypass=true, compass: north",
        "PWD=/app",
        "Bearer authentication failed",
        "basic authentication is off",
        "0xc000012345 +0x1d goroutine 1",
        "1672531200000000000 ns",
        "docker.io, quay.io and registry.k8s.io are up",
        "image pull failed",
        'namespace "default", node "localhost"',
        "pods and/or services",
        "0/3 nodes are available: 1 node(s) had untolerated taint(s)",
        "kubectl get pods -n default",
        "exit code 137, signal 9, 100%, 5m0s",
        "",
        "é → “x” 漢字 \U0001f600",
    ],
)
def test_what_only_looks_private_stays(text: str) -> None:
    assert masker(()).mask(text) == text


@pytest.mark.parametrize(
    "marked",
    [
        'the value "1" is "true", version 1.2',
        "pod «web-5d8f7c-x2vkq» of «web» in «shop»",
        "(«web»), '«web»': \"«web»\"; «web». `«web»`/«shop»",
        "«WEB» and «Web», «WEB»_SERVICE_HOST, «web_api», «web.api»",
        "webserver, cobweb, shopping",
        "«web-9c8b7-abcde» is another's, «my-web-config» too",
        "--«web» -«web»-",
        "“«web»” „«shop»“ ポッド«web»が",
        "«shop»/«web-api»:8080",
        "«web»_«shop»",
        "on «ip-10-0-0-1.ec2.internal»",
        '"«registry.acme.com»/«team/cart»:«1.2-rc1»", or «team/cart», «cart»',
        "error: the test is a success",
        'namespace «error», namespace="«error»" -n «error» and «error»/«web»',
        'pod «test», Pod/«test», pod named «test», "«test»", the test',
        "«test-7d9f8-bcdfg», «test-0», test-drive",
        "a service, service «a», a/b, exit code 1",
        "namespace default stays, kube-system too",
        "data of «data-db-0»",
    ],
)
def test_names_are_masked_as_whole_words(marked: str) -> None:
    check(marked, NAMES)


def test_what_belongs_together_looks_so() -> None:
    mask = masker()
    web, replica_set, pod = (mask.mask(name).partition("_")[2] for name in ("web", "web-5d8f7c", "web-5d8f7c-x2vkq"))
    assert replica_set.startswith(web)
    assert pod.startswith(web)
    assert len({web, replica_set, pod}) == 3
    # By its words another Deployment's name begins alike: it is none that a controller made.
    assert not mask.mask("web-api").partition("_")[2].startswith(web)
    assert mask.mask("web-9c8b7-abcde").partition("_")[2].startswith(web)


def test_a_placeholder_says_what_it_stands_for() -> None:
    mask = masker()
    assert mask.mask("web-5d8f7c-x2vkq").startswith("POD_")
    assert mask.mask("shop").startswith("NAMESPACE_")
    assert mask.mask("data-db-0").startswith("CLAIM_")
    assert mask.mask("10.1.2.3").startswith("IP_")


def test_one_text_of_several_sorts_has_one_neutral_placeholder() -> None:
    mask = masker([Name("Deployment", "cart"), Name("Service", "cart")])
    assert mask.mask("cart").startswith("NAME_")


def test_a_sort_that_could_be_taken_for_a_tag_is_not_used() -> None:
    assert masker([Name("CRD", "widgets"), Name("", "gadgets")]).mask("widgets gadgets").count("NAME_") == 2


def test_a_name_is_masked_alike_whatever_else_is_known_and_wherever_it_stands() -> None:
    alone = masker([Name("namespace", "shop")])
    assert alone.mask("in shop") == masker().mask("in shop") == masker(NAMES[::-1]).mask("in shop")


def test_another_key_gives_other_placeholders() -> None:
    assert masker().mask("web") != Masker(b"another", NAMES).mask("web")


def test_no_key_no_mask() -> None:
    with pytest.raises(ValueError, match="without a key"):
        Masker(b"", NAMES)


def test_no_two_names_share_a_placeholder_though_their_hashes_begin_alike() -> None:
    names = [Name("Pod", f"pod-number-{number}x") for number in range(12_000)]
    one, other = masker(names), masker(names[::-1])
    made = {name.text: one.mask(name.text) for name in names}
    assert len(set(made.values())) == len(names)
    assert any(len(each) > len("POD_") + SHORTEST for each in made.values()), "none collided: take more"
    assert all(other.mask(text) == each for text, each in made.items())


ANSWERS = [
    "{}",
    "`{}`",
    '"{}"',
    "'{}'",
    "**{}**",
    "_{}_",
    "({})",
    "[{}]",
    "<{}>",
    "{}.",
    "{}:",
    "{}'s",
    "{}-",
    "ns/{}",
    "{}/x",
    "“{}”",
    "--pod={}",
    "{}\n",
]


@pytest.mark.parametrize("around", ANSWERS)
@pytest.mark.parametrize("spelt", [str, str.lower, str.upper, str.capitalize])
def test_it_is_turned_back_however_the_model_spells_it(around: str, spelt: type[str]) -> None:
    mask = masker()
    told = around.format(spelt(mask.mask("web-5d8f7c-x2vkq")))
    assert mask.unmask(told) == around.format("web-5d8f7c-x2vkq")


def test_a_plural_and_an_escaped_or_hyphenated_one_is_turned_back() -> None:
    mask = masker()
    made = mask.mask("web")
    assert mask.unmask(f"the {made}s") == "the webs"
    assert mask.unmask(made.replace("_", r"\_")) == "web"
    assert mask.unmask(made.replace("_", "-")) == "web"


def test_what_a_model_invents_stays_and_is_told() -> None:
    mask = masker()
    made = mask.mask("web")
    told = f"{made} needs POD_bcdfg and NODE_23456, not PODIUM_x or {made}x9"
    assert mask.unmask(told) == f"web needs POD_bcdfg and NODE_23456, not PODIUM_x or {made}x9"
    assert mask.strange(told) == ["POD_bcdfg", "NODE_23456", f"{made}x9"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("password=hunter2", f"password={REDACTED}"),
        (f"Authorization: Bearer {JWT}", f"Authorization: Bearer {REDACTED}"),
        (f"key {AWS} of 10.1.2.3", f"key {REDACTED} of 10.1.2.3"),
        (f"blob {RANDOM}", f"blob {REDACTED}"),
        ("postgres://app:pw@db-1:5432", f"postgres://{REDACTED}@db-1:5432"),
        ('secret "login" not found', 'secret "login" not found'),
        ("-----BEGIN X-----\nabc\n-----END X-----", REDACTED),
    ],
)
def test_people_see_names_again_but_no_secret(text: str, told: str) -> None:
    mask = masker()
    assert mask.unmask(mask.mask(text)) == told
    assert mask.restore(mask.mask(text)) == text


def test_a_secret_is_not_told_where_the_model_repeats_it_elsewhere() -> None:
    mask = masker()
    made = mask.mask("password=hunter2").partition("=")[2]
    assert mask.unmask(f"The password is {made.lower()}.") == f"The password is {REDACTED}."


def test_a_name_beside_a_secret_hides_with_it_and_stays_hidden() -> None:
    mask = masker()
    assert mask.unmask(mask.mask(f"web-{AWS} x")) == f"{REDACTED} x"


def test_a_secret_that_is_a_name_too_is_not_told() -> None:
    mask = masker([*NAMES, Name("label", AWS), Name("token", "tapirs")])
    assert mask.unmask(mask.mask("password=shop in shop")) == f"password={REDACTED} in shop"
    assert mask.unmask(mask.mask(f"{AWS} of tapirs")) == f"{REDACTED} of tapirs"


@pytest.mark.parametrize(
    "text", ["POD_bcdfg", "pod-bcdfg", r"NAME\_bcdfgs", "see NODE_23456x, IP_b2c3d4f5", "TEXT_bcdfg"]
)
def test_what_looks_like_a_placeholder_survives(text: str) -> None:
    mask = masker()
    assert text not in mask.mask(text)
    assert mask.unmask(mask.mask(text)) == text
    assert not mask.strange(mask.mask(text))


def test_a_name_that_looks_like_a_placeholder_survives() -> None:
    made = masker().mask("web")
    mask = masker([*NAMES, Name("Pod", made)])
    assert mask.unmask(mask.mask(f"{made} web")) == f"{made} web"


PIECES = [
    *(name.text for name in NAMES),
    *"-_./:@\\\"'`=() \n,;<>[]{}",
    "WEB",
    "POD_bcdfg",
    "pod-bcdfg",
    r"NAME\_",
    "_bcdfg",
    "s",
    "bcdfg",
    "NAME",
    "password=",
    "token: ",
    "hunter2",
    "://",
    "10.0.0.1",
    "fe80::1",
    "::",
    "a@b.de",
    "db.acme.com",
    "svc.cluster.local",
    JWT,
    AWS,
    UID,
    HEX64,
    RANDOM,
    "-----BEGIN A KEY-----",
    "-----END A KEY-----",
    "Authorization: Bearer ",
    'image "',
    'secret "',
    "\ud800",
    "\x00",
    "é",
    "\u200b",
]
pieces = st.sampled_from(PIECES)
texts = st.one_of(st.text(max_size=60), st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=14).map("".join))


@settings(max_examples=400, deadline=None)
@given(st.lists(texts, min_size=1, max_size=3))
@example(["NAME_bcdfg_", "web_bcdfg"])
@example(["a\ud800web\udfff"])
def test_every_text_comes_back_as_it_was(given_texts: list[str]) -> None:
    mask = masker()
    for text in given_texts:
        assert mask.restore(mask.mask(text)) == text
        assert not mask.strange(mask.mask(text))


def test_a_hundred_thousand_texts_come_back_as_they_were() -> None:
    drawn = random.Random(11)
    for _ in range(1000):
        mask = masker()
        for _ in range(100):
            text = "".join(
                drawn.choice(PIECES) if drawn.random() < 0.7 else chr(drawn.randrange(32, 0x2FF))
                for _ in range(drawn.randrange(1, 14))
            )
            assert mask.restore(mask.mask(text)) == text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(texts, max_size=3).map(" ".join),
    st.lists(st.from_regex(r"[a-z][a-z0-9]{6,12}", fullmatch=True), min_size=1, max_size=4),
)
def test_no_name_is_left_of_any_text(text: str, planted: list[str]) -> None:
    mask = masker([*NAMES, *(Name("Pod", name) for name in planted)])
    for name in planted:
        for told in (f"{text} {name} {text}", f"{text}/{name},{text}", f"x-{name}-{text}"):
            left = PLACEHOLDER.sub(" ", mask.mask(told))
            assert not re.search(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", left)


@settings(max_examples=150, deadline=None)
@given(texts, texts)
def test_masking_twice_masks_alike(one: str, other: str) -> None:
    first, again = masker(), masker()
    first.mask(other)
    assert first.mask(one) == first.mask(one)
    assert len(first.mask(one)) == len(again.mask(one)) or outline(first.mask(one)) == outline(again.mask(one))


def test_a_long_line_of_anything_is_masked() -> None:
    for piece in (
        "web ",
        "10.0.0.1,",
        "fe80::1,",
        "password=x",
        "a.b-c/",
        "://",
        "-----BEGIN A-----",
        "POD_bcdfg",
        "\\",
    ):
        text = piece * 2000
        mask = masker()
        assert mask.restore(mask.mask(text)) == text


def test_random_secrets_are_found_without_any_word_before_them() -> None:
    drawn = random.Random(7)
    for _ in range(200):
        for made in (drawn.randbytes(20).hex(), base64.urlsafe_b64encode(drawn.randbytes(36)).decode()):
            masked = masker(()).mask(f"got {made} back")
            assert made not in masked

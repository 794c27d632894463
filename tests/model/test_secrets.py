"""F63: what is kept of a command has no values of --export, and nothing that looks like a secret."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.model.secrets import MASK, has_secrets, is_masked, masked


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--export=ALL,TOKEN=abc"], ["--export=ALL,TOKEN=***"]),
        (["--export", "A=1,B,C='x,y'", "--mem=1G"], ["--export", "A=***,B,C=***", "--mem=1G"]),
        (['--export=A="x,y",ALL'], ["--export=A=***,ALL"]),
        (["--export=A=1,/2/3"], ["--export=A=***,***"]),
        (["--export=A=b=c"], ["--export=A=***"]),
        (["--comment=my token=abc, more"], ["--comment=my token=***, more"]),
        (["--comment=password: 'a b'"], ["--comment=password: ***"]),
        (["--container=docker://me:pw@host/x"], ["--container=docker://me:***@host/x"]),
        (["--comment=ghp_0123456789abcdefghij"], ["--comment=***"]),
        (["--site-token", "abc", "--mem=1G"], ["--site-token", "***", "--mem=1G"]),
        (["--site-token=abc"], ["--site-token=***"]),
        (["MY_SECRET_KEY=abc"], ["MY_SECRET_KEY=***"]),
        (["--comment=pwd=abc"], ["--comment=pwd=***"]),
        (["--comment=pass=abc x"], ["--comment=pass=*** x"]),
        (["DB_PASS=abc", "PGPASS=abc", "MYSQL_PWD=abc"], ["DB_PASS=***", "PGPASS=***", "MYSQL_PWD=***"]),
        (['--comment={"api_key":"a b","n":1}'], ['--comment={"api_key":***,"n":1}']),
        (['--comment={\\"api_key\\": \\"ab\\"}'], ['--comment={\\"api_key\\": ***']),
        (["--comment=Bearer 0123456789abcdef"], ["--comment=Bearer ***"]),
        (["--comment=Authorization: Basic bWU6cHc= x"], ["--comment=Authorization: *** x"]),
        (["--comment=Authorization: Bearer ab"], ["--comment=Authorization: ***"]),
        (["--comment=AKIAIOSFODNN7EXAMPLE x"], ["--comment=*** x"]),
        (["--comment=AIza" + "a" * 35], ["--comment=***"]),
        (["--comment=npm_" + "a" * 36], ["--comment=***"]),
        (["--comment=pypi-" + "a" * 30], ["--comment=***"]),
        (["--comment=glpat-" + "a" * 20], ["--comment=***"]),
        (["--comment=https://abcdef@host/x"], ["--comment=https://***@host/x"]),
        (["--comment=https://hooks.slack.com/services/T0/B0/abc"], ["--comment=https://***"]),
        (["--comment=-----BEGIN RSA PRIVATE KEY-----\nabc\n"], ["--comment=***"]),
    ],
)
def test_f63_secrets_are_masked(words: list[str], kept: list[str]) -> None:
    assert masked(words) == tuple(kept)
    assert has_secrets(words)
    assert is_masked(masked(words))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--export=ALL"],
        ["--export", "NONE"],
        ["--export=A,B"],
        ["--wckey=x", "--time=5", "--account=abc"],
        ["--author", "Ada Lovelace <0000>"],
        ["--comment=a key=b", "--comment=passes=3 bypass=1", "--comment=basic=yes"],
        [
            "--comment=see https://host/a@b",
            "--comment=bearer",
            "--comment=a compass: 3",
            "--comment=glad-to-be-of-service",
        ],
        ["--chdir=/a/pwd/b", "--comment=ssh://git@host/x", "--reservation=pi-lab_2026"],
        ["esis", "run", "-n"],
        ["--export-file=x"],
    ],
)
def test_all_else_is_kept_as_it_is(words: list[str]) -> None:
    assert masked(words) == tuple(words)
    assert not has_secrets(words)
    assert not is_masked(words)


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_masking_twice_is_masking_once(words: list[str]) -> None:
    assert masked(masked(words)) == masked(words)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Z]{1,4}", fullmatch=True), st.from_regex(r"q[0-9]{4,9}", fullmatch=True), min_size=1
    )
)
def test_f63_no_value_of_a_variable_comes_through(variables: dict[str, str]) -> None:
    shown = "".join(masked(["--export=ALL," + ",".join(f"{name}={value}" for name, value in variables.items())]))
    assert not any(value in shown for value in variables.values())
    assert shown.count(MASK) == len(variables)

"""Texts that others wrote, as they are read out of their packages' files."""

from pathlib import Path

from bench.texts.alice import pair_nearest, read_alice
from bench.texts.faqs import read_faqs

LONG = "An answer that is long enough to be one, since shorter ones only point to another place."
POD = f"""=head1 Files

=head2 How do I C<open> a file?

{LONG} See L<perlfunc>.

=over

=head2 No question

{LONG}
"""
RST = f"""=====
Title
=====

What is it?
-----------

{LONG}

Why?
----

Because.
"""
ASCIIDOC = f"""Configuration
-------------

[[one]]
What is `user.name`?::
	{LONG}

[[two]]
Why not?::
	{LONG}
"""


def test_questions_are_read_with_their_answers(tmp_path: Path) -> None:
    for name, text in (("perlfaq1.pod", POD), ("general.rst.txt", RST), ("gitfaq.txt", ASCIIDOC)):
        (tmp_path / name).write_text(text)
    (tmp_path / "alice").mkdir()
    found = {one.question: one.answer for one in read_faqs(tmp_path)}
    assert set(found) == {"How do I open a file?", "What is it?", "What is `user.name`?", "Why not?"}
    assert found["How do I open a file?"] == f"{LONG} See perlfunc."
    assert found["What is `user.name`?"] == LONG


def test_prompts_are_those_without_wildcards(tmp_path: Path) -> None:
    categories = [
        ("WHAT IS YOUR NAME", "My name is Alice."),
        ("DO YOU HAVE A NAME", "<srai>WHAT IS YOUR NAME</srai>"),
        ("WHAT IS IT *", "<srai>WHAT IS IT</srai>"),
        ("WHO I AM NOW", "Let me see. <srai>WHAT IS YOUR NAME</srai>"),
        ("HELLO", "Hi."),
    ]
    text = ""
    for pattern, template in categories:
        text += f"<category><pattern>{pattern}</pattern><template>{template}</template></category>"
    (tmp_path / "a.aiml").write_text(f"<aiml>{text}</aiml>")
    found = read_alice(tmp_path)
    assert found.same == [("Do you have a name", "What is your name")]
    assert set(found.answers) == {"What is your name", "Who I am now"}


def test_each_prompt_is_paired_with_the_nearest_that_has_another_answer() -> None:
    answers = {"a": "one", "b": "one", "c": "two", "d": "three"}
    pairs = pair_nearest(answers, [(1, 0), (1, 0.1), (1, 0.5), (0, 1)], 2)
    assert [(one.a, one.b, one.same) for one in pairs] == [("a", "c", False), ("b", "c", False)]

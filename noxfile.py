"""The checks for contributors: `nox` runs all, `nox -s tests-3.12 -- -k name` some of the tests."""

import nox


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Run the linters and the type checker."""
    session.install("--editable", ".[lint,test]")
    session.run("bash", ".ci/lint", external=True)

"""`sensorium doctor`: versions, machine and self-check."""

from __future__ import annotations

import typer

from sensorium.cli.output import JsonOption, emit_json, emit_pairs, note

app = typer.Typer(add_completion=False)


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what is installed, where things run, and whether they work.

    Exits 1 if a check fails.
    """
    from sensorium.cli import health

    versions, machine, checks = health.versions(), health.machine(), health.run_checks()
    failed = [check for check in checks if not check.is_ok]
    if json:
        found = {check.name: {"ok": check.is_ok, "detail": check.detail} for check in checks}
        emit_json({"versions": versions, "machine": machine, "checks": found, "ok": not failed})
    else:
        optional = dict.fromkeys(health.OPTIONAL, "not installed (optional)")
        emit_pairs({name: version or optional.get(name, "MISSING") for name, version in versions.items()})
        print()
        emit_pairs(machine)
        print()
        emit_pairs(
            {
                f"check: {check.name}": f"{'ok' if check.is_ok else 'FAILED'}  {check.detail}"
                for check in checks
            }
        )
        note("" if failed else "all well; next: sensorium quickstart")
    if failed:
        raise typer.Exit(1)

"""Placeholder until the demo is written in this session."""

import click


@click.command()
def demo() -> None:
    """Show the main job on the sandbox."""

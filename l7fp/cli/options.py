"""Options that several verbs share."""

from __future__ import annotations

import click

DEFAULT_INSTANCE = "l7fp"

instance_option = click.option(
    "--instance", default=DEFAULT_INSTANCE, show_default=True, metavar="NAME", help="Which of several on this machine."
)
cgroup_option = click.option(
    "--cgroup", metavar="PATH", help="Manage only processes below this cgroup v2 directory (default: the root)."
)
protect_option = click.option(
    "--protect", is_flag=True, help="Servers refuse connections that did not come through l7fp."
)

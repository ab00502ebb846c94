"""Click groups with a default command."""

import click


class ListGroup(click.Group):
    """A group that lists unless told otherwise: `executions --limit 5` means `executions list --limit 5`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the command that was left out."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])

"""`kubewhy completion`: the script that teaches a shell kubewhy's words."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(kubewhy completion bash)"      in ~/.bashrc
    zsh:   eval "$(kubewhy completion zsh)"       in ~/.zshrc
    fish:  kubewhy completion fish | source       in ~/.config/fish/config.fish
    """
    root = click.get_current_context().find_root()
    maker = get_completion_class(shell)
    if maker is None:
        raise click.ClickException(f"this version of click has no completion for {shell}; install click 8.1 or later")
    # bash's own version check would run bash, which need not be here for its script to be printed.
    completion = maker(root.command, {}, "kubewhy", "_KUBEWHY_COMPLETE")
    click.echo(completion.source_template % completion.source_vars())

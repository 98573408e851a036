"""The limit of open files and sockets."""

import resource

from agent.errors import ConfigError

SPARE = 64


def raise_limit(needed: int) -> None:
    """Raise this process's soft limit so that `needed` descriptors can be open beside a few others.

    Raises:
        ConfigError: The hard limit is lower; only an administrator can raise that.
    """
    needed += SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"expected a limit of {needed} open files, got {hard}: raise it (`ulimit -Hn {needed}` as root, "
            "LimitNOFILE= in a systemd unit), or ask for less"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

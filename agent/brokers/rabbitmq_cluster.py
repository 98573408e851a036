"""The files of a RabbitMQ cluster: one folder for each node, to be copied to its `/etc/rabbitmq`.

NODE/rabbitmq.conf, enabled_plugins, definitions.json     agent.brokers.rabbitmq
NODE/tls.crt, tls.key, ca.crt                             this node's; its key is in no other folder
"""

from collections.abc import Sequence
from pathlib import Path

from agent.brokers import rabbitmq
from agent.errors import ConfigError
from agent.keys import files
from agent.trust.tls import CertificateAuthority

HOME = "/etc/rabbitmq"
_FEWEST = 3


def make_cluster(
    folder: Path,
    authority: CertificateAuthority,
    *,
    agency: str,
    hosts: Sequence[str],
    devices: Sequence[str],
    port: int,
) -> list[Path]:
    """Creates a new folder with a subfolder for each node, named after its host.

    Args:
        folder: The new folder; it must not exist.
        authority: The CA that devices and stations trust.
        agency: The agency's name.
        hosts: Names of the nodes, as devices reach them; a node is `rabbit@` and the name up to its first dot.
        devices: Names of the devices that may connect, besides the station, the publisher and the observer.
        port: The port of every node's listener.

    Raises:
        ConfigError: Fewer than three nodes, two of the same short name, or a name that RabbitMQ can't tell apart.
        ProvisioningError, OSError: The folder exists or can't be created.
    """
    nodes = [f"rabbit@{host.partition('.')[0]}" for host in hosts]
    if len(nodes) < _FEWEST or len(set(nodes)) != len(nodes):
        raise ConfigError(
            f"expected at least three nodes with different short names, got {', '.join(hosts) or 'none'}: with two, "
            "the one that is left after a fault can't tell that it is the greater part"
        )
    definitions = rabbitmq.definitions(agency, devices)
    configuration = rabbitmq.configuration(HOME, f"{HOME}/definitions.json", nodes=nodes, port=port, address="::")
    folder.mkdir(mode=0o700)
    made = []
    for host in hosts:
        place = folder / host
        authority.broker([host]).save(place, authority)
        files.write_new(place / "rabbitmq.conf", configuration.encode(), 0o644)
        files.write_new(place / "enabled_plugins", rabbitmq.PLUGINS.encode(), 0o644)
        files.write_new(place / "definitions.json", definitions.encode(), 0o644)
        made.append(place)
    return made

"""The used authorisations within the device state, as the replay guard asks for them."""

from agent.device_state.store import Found
from agent.device_state.updater import StateUpdater
from agent.errors import EvidenceError, StorageError
from agent.trust.replay_guard import UsedTokens


class UsedTokensInState:
    """`agent.trust.replay_guard.UsedRecord` over the device state.

    Args:
        updater: Keeps the state.
    """

    def __init__(self, updater: StateUpdater) -> None:
        self._updater = updater

    def load(self) -> UsedTokens | None:
        """What the state knows to be used.

        Raises:
            StorageError: The state can't be read now.
            EvidenceError: It was altered, or is older than its anchor remembers.
        """
        loaded = self._updater.readable()
        match loaded.found:
            case Found.UNREADABLE:
                raise StorageError(0, f"the device state {loaded.detail}")
            case Found.ALTERED | Found.ROLLED_BACK:
                raise EvidenceError(f"the device state {loaded.detail}")
            case _:
                return None if loaded.state is None else loaded.state.used

    def save(self, used: UsedTokens) -> None:
        """Keeps them at once, whatever else waits to be kept: a token takes effect only after that.

        Raises:
            StorageError: They may or may not have been kept.
        """
        self._updater.save_used(used)

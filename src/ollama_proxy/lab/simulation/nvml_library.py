"""The few calls of NVIDIA's bindings that a meter uses, answered by an emulated card; names are the library's."""

from __future__ import annotations

from ollama_proxy.lab.simulation.sensors import Sensors

#: Where the card sits on the PCI bus.
CARD_ADDRESS = "0000:01:00.0"


class NvmlLibrary:
    """Stands where the module `pynvml` stands. A call to a sleeping card is an error: a real one would be woken."""

    NVML_ERROR_NOT_SUPPORTED = 3

    class NVMLError(Exception):
        """As the library's: `value` is its number."""

        value = 999

    def __init__(self, sensors: Sensors) -> None:
        self._sensors = sensors

    def nvmlInit(self) -> None:
        """Nothing to do."""

    def nvmlShutdown(self) -> None:
        """Nothing to do."""

    def nvmlDeviceGetHandleByPciBusId(self, address: bytes) -> str:
        """The card's handle. Raises `NVMLError` where there is none."""
        if address.decode() != CARD_ADDRESS or not self._sensors.has("nvidia"):
            raise self.NVMLError("Not Found")
        return CARD_ADDRESS

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        """Millijoules since the driver was loaded, in steps of 100 ms."""
        self._check(handle)
        return self._sensors.nvml_mj()

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        """Milliwatts at the counter's last step; a real card tells the mean of a second."""
        self._check(handle)
        return round(self._sensors.nvml_w * 1000)

    def _check(self, handle: str) -> None:
        if handle != CARD_ADDRESS or self._sensors.is_asleep("nvidia"):
            raise self.NVMLError("the card sleeps")

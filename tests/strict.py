"""The Array API standard and nothing else, on two devices, between which no array moves by itself."""

import array_api_strict
import numpy as np

DEVICES = ("CPU_DEVICE", "device1")


def to(device):
    """From NumPy to arrays on a device."""
    return lambda array: array_api_strict.asarray(array, device=array_api_strict.Device(device))


def back(device):
    """From arrays on a device, and on no other, to NumPy."""

    def convert(array):
        assert array.device == array_api_strict.Device(device)
        return np.asarray(array.to_device(array_api_strict.Device("CPU_DEVICE")))

    return convert

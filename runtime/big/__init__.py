"""Models larger than a device: made without memory, spread over devices, memory and disk."""

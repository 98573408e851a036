"""A shift change of many simulated devices, for sizing brokers and stations. Not installed on a camera."""

"""The real picamera2 and libcamera, on libcamera's virtual camera, under the real recorder."""

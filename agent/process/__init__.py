"""What every service process needs from the operating system: termination signals and the limit of descriptors."""

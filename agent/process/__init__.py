"""What every service process needs of the operating system: termination signals and the limit of descriptors."""

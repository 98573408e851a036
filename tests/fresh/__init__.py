"""The two commands of the README on machines where nothing was prepared: minimal trees of each supported Debian."""

"""What the hardware suites share: Debian trees and packages, made once and kept by version."""

"""The same devices and stations on a three-node RabbitMQ cluster. `make test-cluster` runs it, not `make test`."""

"""Example configurations for message brokers: Mosquitto for one station, RabbitMQ for a cluster."""
